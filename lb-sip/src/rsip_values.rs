//! rsip
