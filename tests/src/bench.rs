//! What the data plane costs: nanoseconds per packet in the kernel's own test-run loop, and frames
//! per second over virtual links; and what the redirect server behind it costs a message.
//!
//! **The repeat trap.** `BPF_PROG_TEST_RUN` with a repeat count does not restore the packet: from the
//! second round on a program sees what it wrote itself. Ours writes nothing but the twelve bytes of
//! link addresses, which it never reads, so one call's packet may go round on itself. Many calls need
//! another Call-ID each round: there a small program in front ([`bpf::Feeder`]) writes the
//! next one into the packet and tail-calls the program under test; what it costs by itself is
//! measured with an empty program behind it, in the same rounds, and taken off.
//!
//! | module | question |
//! |---|---|
//! | [`bpf`] | how is the kernel asked? |
//! | [`subject`] | which program meets which packet, and over which maps? |
//! | [`rounds`] | how long did it take, all subjects taking turns? |
//! | [`live`] | how many frames a second go through on a virtual link? |
//! | [`forward`] | what does the redirect server cost a message, and what does Kamailio? |
//! | [`table`] | how is it shown? |

pub mod bpf;
pub mod forward;
pub mod live;
pub mod rounds;
pub mod subject;
pub mod table;
