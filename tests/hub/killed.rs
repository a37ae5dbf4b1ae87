//! The real program, killed in the middle of a download.
