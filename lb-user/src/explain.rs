//! Where would this packet go, and why?

pub mod stack;
