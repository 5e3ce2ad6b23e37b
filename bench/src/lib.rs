//! Whole-path benchmarks of Logweir.
