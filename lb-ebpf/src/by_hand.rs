//! The two loops that every packet pays for, in the machine's own instructions: over the lines up to the
//! Call-ID, and over the Call-ID's words.
//!
//! They answer as the readers in [`lb_common::sip`] do, or not at all: whatever is not plain is left to
//! those. Differential tests hold both together, over a million mutated frames.
//!
//! By hand, because the compiler has no way to the instruction that tests bits ("jump if set"), and moves a
//! hash's state through the stack when registers are short: see ARCHITECTURE.md for what that costs.
//!
//! Labels are numbers, because a name may stand only once in an object: `1i0` is where word *i* of eight is
//! looked at.

use core::arch::asm;

use lb_common::sip::word::{CONTROLS, GATHER, HIGH, ONES};
use lb_common::sip::{CALL_ID_CASE, CALL_ID_NAME, ENDS};
use lb_common::siphash::{START, SipKey};

/// Bytes that [`find_value`] wants to be there, from eight bytes before the first one it looks at: it looks
/// back.
pub(crate) const LOOK: usize = 8 + 64;

/// Bytes that [`plain_call_id`] wants to be there.
pub(crate) const WHOLE: usize = 64;

/// Multiplied by the high bit of a byte, it has the number of that byte's place, from 1 on, in its top four bits.
const PLACES: u64 = {
    // The eighth place's number is the one bit that is left of the four.
    let mut places = 1;
    let mut place = 1;
    while place < 8 {
        places |= place << (61 - 8 * place);
        place += 1;
    }
    places
};

/// Blocks of 64 bytes that are looked at: a full Ethernet frame.
const BLOCKS: u64 = 1_472 / 64;

/// Goes on if a word holds no byte below the limit, and probably if it holds none beyond ASCII.
macro_rules! look_at {
    ($place:literal, $here:literal, $hit:literal) => {
        concat!(
            $here,
            ": {found} = *(u64 *)({at} + ",
            $place,
            ")\n",
            "{found} -= {limits}\n",
            "if {found} & {high} goto ",
            $hit,
            "f\n",
        )
    };
}

/// What is done about such a byte: on to the next word behind the end of a line that is of no interest, and
/// behind letters beyond ASCII; else it stops there.
macro_rules! settle {
    (
        $place:literal, before: $before:literal, behind: $behind:literal,
        $hit:literal, $odd:literal, $like_c:literal, $next:literal
    ) => {
        concat!(
            $hit, ": {found} &= {high}\n",
            "{first} = {found}\n",
            "{first} = -{first}\n",
            "{first} &= {found}\n",
            // Two such bytes and no third; the second may be in the next word.
            "{here} = {first}\n",
            "{here} <<= 8\n",
            "{here} ^= {first}\n",
            "if {here} != {found} goto ", $odd, "f\n",
            // The bit moves four bits, with its place's number from 1 on, to the top. And are 16 bytes there?
            "{first} *= {places}\n",
            "{first} >>= 60\n",
            "{stop} = {at}\n",
            "{stop} += {first}\n",
            "{here} = {stop}\n",
            "{here} += ", $behind, "\n",
            "if {here} > {end} goto ", $odd, "f\n",
            // Carriage return, line feed, and of the byte behind them three bits that `c`, `C`, `i`, `I`
            // and the carriage return have in common, and few other initials.
            "{here} = *(u64 *)({stop} + ", $before, ")\n",
            "{here} &= 0x91ffff\n",
            "if {here} == 0x010a0d goto ", $like_c, "f\n",
            "{here} &= 0xffff\n",
            "if {here} == 0x0a0d goto ", $next, "\n",
            $odd, ": {stop} = {at}\n",
            "{stop} += ", $place, "\n",
            "{here} = *(u64 *)({stop} + 0)\n",
            "{here} ^= -1\n",
            "{here} &= {found}\n",
            "if {here} == 0 goto ", $next, "\n",
            // The line feed of a line end whose carriage return was the last byte of the word before?
            "if {here} != 0x80 goto 99f\n",
            "{here} = *(u8 *)({at} + ", $before, ")\n",
            "if {here} == 0x0d goto ", $next, "\n",
            "goto 99f\n",
            $like_c, ": {stop} += ", $before, "\n",
            "{here} = *(u64 *)({stop} + 0)\n",
            "{here} >>= 16\n",
            "{first} = {case} ll\n",
            "{first} &= {here}\n",
            "{found} = {name} ll\n",
            "if {first} == {found} goto 97f\n",
            // A compact name, or the empty line: `\r` with the bit of lower case is a hyphen.
            "{here} |= 0x20\n",
            "{here} &= 0xff\n",
            "if {here} == 0x69 goto 99f\n",
            "if {here} != 0x2d goto ", $next, "\n",
            "goto 99f\n",
        )
    };
}

/// Where the value of a plain `Call-ID: ` starts, behind plain lines: they are looked at from [`LOOK`] bytes at
/// `at` on, whose first eight are only looked back at.
///
/// # Errors
/// The place to read on from: the line end before a name that is not written so (`Call-Info`, a compact one) or
/// before the empty line, where something is not plain, which may be the line feed of a line end, or where there
/// is no more to look at.
#[inline(always)]
pub(crate) fn find_value(at: usize, end: usize) -> Result<usize, usize> {
    let (stop, found): (usize, u64);
    // SAFETY: every read is of the bytes that are known to be there, or follows a comparison with the end.
    unsafe {
        asm!(
            look_at!("8", "100", "101"),
            look_at!("16", "110", "111"),
            look_at!("24", "120", "121"),
            look_at!("32", "130", "131"),
            look_at!("40", "140", "141"),
            look_at!("48", "150", "151"),
            look_at!("56", "160", "161"),
            look_at!("64", "170", "171"),
            "180: {at} += 64",
            "{here} = {at}",
            "{here} += 72",
            "if {here} > {end} goto 98f",
            "{left} += -1",
            "if {left} != 0 goto 100b",
            "98: {stop} = {at}",
            "{stop} += 8",
            "{found} = 1",
            "goto 99f",
            settle!("8", before: "7", behind: "23", "101", "102", "103", "110b"),
            settle!("16", before: "15", behind: "31", "111", "112", "113", "120b"),
            settle!("24", before: "23", behind: "39", "121", "122", "123", "130b"),
            settle!("32", before: "31", behind: "47", "131", "132", "133", "140b"),
            settle!("40", before: "39", behind: "55", "141", "142", "143", "150b"),
            settle!("48", before: "47", behind: "63", "151", "152", "153", "160b"),
            settle!("56", before: "55", behind: "71", "161", "162", "163", "170b"),
            settle!("64", before: "63", behind: "79", "171", "172", "173", "180b"),
            // What is left of the name, the colon, a blank, and the first byte of a value. Whoever comes by another
            // way has something else than zero in `found`: the bits of a hit, the name, or a one.
            "97: {here} = *(u64 *)({stop} + 8)",
            "{here} |= 0x20",
            "{first} = {here}",
            "{first} &= 0xffffff",
            "if {first} != {rest} goto 99f",
            "{here} >>= 24",
            "{here} &= 0xff",
            "if {here} <= 0x20 goto 99f",
            "{stop} += 11",
            "{found} = 0",
            "99:",
            at = inout(reg) at => _,
            end = in(reg) end,
            limits = in(reg) ONES * CONTROLS as u64,
            high = in(reg) HIGH,
            places = in(reg) PLACES,
            left = inout(reg) BLOCKS => _,
            found = out(reg) found,
            first = out(reg) _,
            here = out(reg) _,
            stop = out(reg) stop,
            case = const CALL_ID_CASE,
            name = const CALL_ID_NAME,
            rest = const u32::from_le_bytes(*b"d: \0"),
            options(readonly, nostack),
        );
    }
    if found == 0 { Ok(stop) } else { Err(stop) }
}

/// Rotates a word of the hash to the left; to the right by what is left of 64.
macro_rules! rotate {
    ($word:literal, $left:literal, $right:literal) => {
        concat!(
            "{t} = ",
            $word,
            "\n",
            "{t} >>= ",
            $right,
            "\n",
            $word,
            " <<= ",
            $left,
            "\n",
            $word,
            " |= {t}\n",
        )
    };
}

/// The first additions of a round of SipHash: `v1` to `v0`, and, past a step that the last round does without, `v3`
/// to `v2`.
macro_rules! additions {
    ($between:expr) => {
        concat!(
            "{v0} += {v1}\n",
            rotate!("{v1}", "13", "51"),
            "{v1} ^= {v0}\n",
            $between,
            "{v2} += {v3}\n",
            rotate!("{v3}", "16", "48"),
            "{v3} ^= {v2}\n",
        )
    };
}

/// A round of SipHash.
macro_rules! round {
    () => {
        concat!(
            additions!(rotate!("{v0}", "32", "32")),
            "{v0} += {v3}\n",
            rotate!("{v3}", "21", "43"),
            "{v3} ^= {v0}\n",
            "{v2} += {v1}\n",
            rotate!("{v1}", "17", "47"),
            "{v1} ^= {v2}\n",
            rotate!("{v2}", "32", "32"),
        )
    };
}

/// The last round, and the four words of the state in one, `v0`: in it the round's `v0` meets itself, in `v3`, and
/// vanishes, and `v1` brings `v2` along as it was before its rotation.
macro_rules! last_round {
    () => {
        concat!(
            additions!(""),
            "{v2} += {v1}\n",
            "{v0} = {v2}\n",
            rotate!("{v3}", "21", "43"),
            "{v0} ^= {v3}\n",
            rotate!("{v1}", "17", "47"),
            "{v0} ^= {v1}\n",
            rotate!("{v2}", "32", "32"),
            "{v0} ^= {v2}\n",
        )
    };
}

/// Takes a word into the hash, unless a byte in it may end the Call-ID.
macro_rules! take_in {
    ($place:literal, $hit:literal) => {
        concat!(
            "{word} = *(u64 *)({at} + ",
            $place,
            ")\n",
            "{t} = {word}\n",
            "{t} -= {limits}\n",
            "if {t} & {high} goto ",
            $hit,
            "f\n",
            "{v3} ^= {word}\n",
            round!(),
            "{v0} ^= {word}\n",
        )
    };
}

/// The hash and length of a Call-ID that starts at `at`, where [`WHOLE`] bytes are, if it ends in them, with
/// a line end, and the next line is not its continuation. Length 0 otherwise.
#[inline(always)]
pub(crate) fn plain_call_id(at: usize, end: usize, secret: &SipKey) -> (u64, u64) {
    let (key, len);
    // SAFETY: every read is of the secret, of the bytes that are known to be there, or follows a comparison
    // with the end.
    unsafe {
        asm!(
            "{v2} = *(u64 *)({t} + 0)",
            "{v3} = *(u64 *)({t} + 8)",
            "{v0} = {start0} ll",
            "{v1} = {start1} ll",
            "{v0} ^= {v2}",
            "{v1} ^= {v3}",
            "{t} = {start2} ll",
            "{v2} ^= {t}",
            "{t} = {start3} ll",
            "{v3} ^= {t}",
            take_in!("0", "10"),
            take_in!("8", "11"),
            take_in!("16", "12"),
            take_in!("24", "13"),
            take_in!("32", "14"),
            take_in!("40", "15"),
            take_in!("48", "16"),
            take_in!("56", "17"),
            "goto 98f",
            "10: {limits} = 0",
            "goto 20f",
            "11: {limits} = 8",
            "goto 20f",
            "12: {limits} = 16",
            "goto 20f",
            "13: {limits} = 24",
            "goto 20f",
            "14: {limits} = 32",
            "goto 20f",
            "15: {limits} = 40",
            "goto 20f",
            "16: {limits} = 48",
            "goto 20f",
            "17: {limits} = 56",
            // The length, where the limits were: the place of the first byte below them, or beyond ASCII, which
            // is no line end. And what stands before it.
            "20: {t} &= {high}",
            "{high} = {t}",
            "{high} = -{high}",
            "{t} &= {high}",
            "{t} >>= 7",
            "{high} = {gather} ll",
            "{high} *= {t}",
            "{high} >>= 56",
            "{limits} += {high}",
            "{t} += -1",
            "{word} &= {t}",
            "if {limits} == 0 goto 98f",
            // Carriage return, line feed, and something greater than a blank.
            "{at} += {limits}",
            "{t} = {at}",
            "{t} += 8",
            "if {t} > {end} goto 98f",
            "{t} = *(u64 *)({at} + 0)",
            "{t} = be64 {t}",
            "{t} >>= 40",
            "{t} += -0x0d0a21",
            "if {t} > 0xde goto 98f",
            "{t} = {limits}",
            "{t} <<= 56",
            "{word} |= {t}",
            "{v3} ^= {word}",
            round!(),
            "{v0} ^= {word}",
            "{v2} ^= 0xff",
            round!(),
            round!(),
            last_round!(),
            "goto 99f",
            "98: {limits} = 0",
            "99:",
            at = inout(reg) at => _,
            end = in(reg) end,
            limits = inout(reg) ONES * ENDS as u64 => len,
            high = inout(reg) HIGH => _,
            t = inout(reg) secret => _,
            word = out(reg) _,
            v0 = out(reg) key,
            v1 = out(reg) _,
            v2 = out(reg) _,
            v3 = out(reg) _,
            gather = const GATHER,
            start0 = const START[0],
            start1 = const START[1],
            start2 = const START[2],
            start3 = const START[3],
            options(readonly, nostack),
        );
    }
    (key, len)
}
