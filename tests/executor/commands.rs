//! The commands that show what a sweep has done.
