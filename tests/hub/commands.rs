//! The real program with a hub on loopback.
