//! What becomes of a pair when networks, machines and programs fail, or somebody lies.
//!
//! | module | question |
//! |---|---|
//! | [`begin`](mod@begin) | how does it begin? |
//! | [`watch`] | who steers, who answers for the VIP, and what do the daemons say? |
//! | [`questions`] | who asks for the VIP's link address, and who answers? |
//! | [`partitions`] | is there ever more than one main, and is there one wherever there can be? |
//! | [`half_dead`] | what of a machine that stands still, and goes on? |
//! | [`cables`] | what of cables that are pulled or moved? |
//! | [`ports`] | what of a main that the switch does not reach? |
//! | [`restarts`] | what of daemons that are killed and started again? |
//! | [`forgeries`] | what of control datagrams and links that are not genuine? |
//! | [`floods`] | what of more of them than anybody can read? |
//! | [`victims`] | who is lied to, and what do they say of it? |
//! | [`configuration`] | what of a stand-by with an older configuration? |
//! | [`nodes`] | what of nodes that are added and removed, several at a time? |
//! | [`alarms`] | what of a network that loses and delays? |
//! | [`weather`] | how is a cable made to? |
//! | [`announced`] | what where a routing daemon announces the VIP? |

mod alarms;
mod announced;
mod begin;
mod cables;
mod configuration;
mod floods;
mod forgeries;
mod half_dead;
mod nodes;
mod partitions;
mod ports;
mod questions;
mod restarts;
mod victims;
mod watch;
mod weather;
