//! Calls through the load balancer and real redirect servers, to SIP servers behind these.

mod service;
mod through;
