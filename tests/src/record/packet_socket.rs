//! A socket that sees, and sends, whole frames of one port.
#![expect(
    unsafe_code,
    reason = "packet sockets have no safe wrapper in the standard library"
)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use anyhow::{Context, Result};

use crate::lab::Namespace;

/// Frames taken from the kernel at once.
const BATCH: usize = 64;
/// Longest frame that is read; longer ones are cut off.
const FRAME_LEN: usize = 2048;
/// Room for a time stamp and the auxiliary data, with their headers.
const CONTROL_LEN: usize = 128;
/// Bytes of frames that the kernel keeps for us; some 25,000 messages.
const QUEUE_LEN: libc::c_int = 64 << 20;

/// Values of `linux/if_packet.h` that the libc crate lacks.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;

/// A frame as it came.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The frame without its (outer) VLAN tag, which the kernel takes off.
    pub bytes: &'a [u8],
    /// The identifier of that tag.
    pub vlan: Option<u16>,
    /// When the kernel got it, in nanoseconds since 1970.
    pub time_ns: u64,
}

/// A socket on one port of one namespace. It sees what comes in there, not what goes out.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    buffers: Vec<[u8; FRAME_LEN]>,
    controls: Vec<Control>,
}

/// Aligned like the headers that the kernel writes into it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

impl PacketSocket {
    /// Opens one.
    ///
    /// # Errors
    /// No such port, or not root.
    pub fn open(namespace: &Namespace, port: &str) -> Result<Self> {
        let socket = namespace
            .inside(|| open(port))?
            .with_context(|| format!("cannot listen on {port} of {}", namespace.name()))?;
        let buffers = vec![[0; FRAME_LEN]; BATCH];
        let controls = vec![Control([0; CONTROL_LEN]); BATCH];
        Ok(Self {
            socket,
            buffers,
            controls,
        })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The port does not take it.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the frame is valid for as many bytes as said.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Shows the frames that wait, at most a batch of them, and gives their number.
    ///
    /// # Errors
    /// The port is gone.
    pub fn receive(&mut self, mut show: impl FnMut(Received<'_>)) -> io::Result<usize> {
        let mut vectors: [libc::iovec; BATCH] = std::array::from_fn(|i| libc::iovec {
            iov_base: self.buffers[i].as_mut_ptr().cast(),
            iov_len: FRAME_LEN,
        });
        let mut headers: [libc::mmsghdr; BATCH] = std::array::from_fn(|i| {
            // SAFETY: all-zero is a valid, empty message header.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_iov = &raw mut vectors[i];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = self.controls[i].0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_LEN;
            header
        });
        // SAFETY: every header points to a buffer and a control buffer of its own, of the lengths
        // said, which outlive the call.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock {
                Ok(0)
            } else {
                Err(error)
            };
        };
        for (header, buffer) in headers[..count].iter().zip(&self.buffers) {
            let (time_ns, vlan) = read_control(&header.msg_hdr);
            let len = FRAME_LEN.min(header.msg_len as usize);
            show(Received {
                bytes: &buffer[..len],
                vlan,
                time_ns,
            });
        }
        Ok(count)
    }

    /// Frames that the kernel had no room for since this was last asked.
    ///
    /// # Errors
    /// The system cannot say.
    pub fn take_dropped(&self) -> io::Result<u64> {
        // struct tpacket_stats: packets, drops.
        let mut stats = [0_u32; 2];
        let mut len = mem::size_of_val(&stats) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to the array.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                stats.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if result == 0 {
            Ok(stats[1].into())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

fn open(port: &str) -> io::Result<OwnedFd> {
    // With protocol 0 nothing comes in before the socket is set up.
    // SAFETY: socket takes integers and gives a new descriptor or −1.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    for (level, option, value) in [
        (libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1),
        (libc::SOL_PACKET, libc::PACKET_AUXDATA, 1),
        (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1),
        (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, QUEUE_LEN),
    ] {
        // SAFETY: the value is an int and as long as said.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                mem::size_of_val(&value) as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let name = std::ffi::CString::new(port)?;
    // SAFETY: the name ends in a zero byte and outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all-zero is a valid link-layer address.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    // SAFETY: the address is as long as said and outlives the call.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            mem::size_of_val(&address) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(socket)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The time stamp and the VLAN identifier that came with a frame.
fn read_control(header: &libc::msghdr) -> (u64, Option<u16>) {
    let (mut time_ns, mut vlan) = (0, None);
    // SAFETY: the kernel has filled the header's control buffer, which is still there; the macros
    // stay within the length that it says. What they point to is read unaligned.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(head) = message.as_ref() {
            let data = libc::CMSG_DATA(message);
            match (head.cmsg_level, head.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let time = data.cast::<libc::timespec>().read_unaligned();
                    time_ns = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
                }
                (libc::SOL_PACKET, libc::PACKET_AUXDATA) => {
                    let data = data.cast::<libc::tpacket_auxdata>().read_unaligned();
                    if data.tp_status & TP_STATUS_VLAN_VALID != 0 {
                        vlan = Some(data.tp_vlan_tci & 0x0fff);
                    }
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    (time_ns, vlan)
}
