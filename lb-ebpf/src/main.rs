#![no_std]
#![no_main]
//! The XDP programs.
use aya_ebpf::{bindings::xdp_action, btf_maps::Array, macros::{btf_map, xdp}, programs::XdpContext};
#[btf_map]
static CONFIG: Array<u64, 1> = Array::new();

#[xdp]
pub fn pointsman(_ctx: XdpContext) -> u32 {
    if let Some(c) = CONFIG.get(0) { if *c == 7 { return xdp_action::XDP_DROP } }
    xdp_action::XDP_PASS
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
