"""The libraries that programs log with."""
