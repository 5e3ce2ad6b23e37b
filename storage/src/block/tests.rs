//! What goes in comes out, and a scan finds what a look at each log would.
