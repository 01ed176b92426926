//! Calls through the load balancer and real redirect servers, to SIP servers behind these.

mod offers;
mod service;
mod through;
