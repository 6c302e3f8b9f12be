//! Asking before the client library decompresses.
//!
//! The library has no limit for what a fetch becomes, and no callback between the fetch and the records. So the linker sets
//! these functions before the library's own (`build.rs`: `--wrap`), in the programs of this package and nowhere else: what
//! `bound_decompression!` expands to belongs to a program. In other programs `receive.message.max.bytes` alone bounds
//! zstd, batch by batch.
//!
//! An error instead of a buffer ends the library's reading of the partition's part of the answer. What came before the
//! batch is delivered, the error follows it in the partition's queue, and the library fetches from the batch on again after
//! `fetch.error.backoff.ms` (`rd_kafka_msgset_reader_decompress` and `rd_kafka_fetch_reply_handle_partition`).

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr;
use std::time::Instant;

use rdkafka::types::RDKafkaRespErr;

use crate::kafka::allowance::{Verdict, allowance};
use crate::kafka::expansion;

/// `rd_gz_decompress`: input, its length, place for the output's length.
pub type Gzip = unsafe extern "C" fn(*const c_void, c_int, *mut u64) -> *mut c_void;
/// `rd_kafka_zstd_decompress`: broker, input, its length, places for output and its length.
pub type Zstd = unsafe extern "C" fn(*mut c_void, *mut c_char, usize, *mut *mut c_void, *mut usize) -> c_int;
/// `rd_kafka_lz4_decompress`: broker, whether the header is right, offset, then as [`Zstd`].
pub type Lz4 = unsafe extern "C" fn(*mut c_void, c_int, i64, *mut c_char, usize, *mut *mut c_void, *mut usize) -> c_int;
/// `rd_kafka_snappy_uncompressed_length`: input, its length, place for the output's length.
pub type SnappyLength = unsafe extern "C" fn(*const c_char, usize, *mut usize) -> bool;
/// `rd_kafka_snappy_java_uncompress`: input, its length, place for the output's length, text of an error, its length.
pub type SnappyJava = unsafe extern "C" fn(*const c_char, usize, *mut usize, *mut c_char, usize) -> *mut c_char;
/// `rd_kafka_buf_new_shadow`: content, its length, what frees it.
pub type Shadow = unsafe extern "C" fn(*const c_void, usize, Option<Free>) -> *mut c_void;
/// What frees a buffer.
pub type Free = unsafe extern "C" fn(*mut c_void);

const POSTPONED: c_int = RDKafkaRespErr::RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE as c_int;
/// One that neither the library nor a broker gives for a fetch: that a message is too large the library says of empty answers.
const TOO_LARGE: c_int = RDKafkaRespErr::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE as c_int;
const BAD_COMPRESSION: c_int = RDKafkaRespErr::RD_KAFKA_RESP_ERR__BAD_COMPRESSION as c_int;

thread_local! {
    /// What this thread was granted for a batch that has no buffer yet.
    static GRANTED: Cell<usize> = const { Cell::new(0) };
    /// Whether the library's snappy-java asks for its chunks' lengths, which are granted together.
    static IN_CHUNKS: Cell<bool> = const { Cell::new(false) };
}

#[expect(unsafe_code, reason = "functions of the C library, and of the zstd that the client library is linked with")]
unsafe extern "C" {
    fn malloc(len: usize) -> *mut c_void;
    fn realloc(address: *mut c_void, len: usize) -> *mut c_void;
    fn free(address: *mut c_void);
    fn ZSTD_decompress(out: *mut c_void, room: usize, compressed: *const c_void, len: usize) -> usize;
    fn ZSTD_isError(result: usize) -> c_uint;
}

/// Frees a buffer that was counted.
extern "C" fn free_counted(address: *mut c_void) {
    allowance().free(address.addr());
    // SAFETY: the library frees its buffers of decompressed batches in this way, and does so once.
    #[expect(unsafe_code, reason = "the library's rd_free is this")]
    unsafe {
        free(address);
    }
}

/// Asks for what a batch becomes.
fn ask(size: usize) -> Verdict {
    let mut allowance = allowance();
    // A batch that was granted and came to nothing.
    allowance.settle(GRANTED.take(), None);
    let verdict = allowance.ask(size, Instant::now());
    if verdict == Verdict::Granted {
        GRANTED.set(size);
    }
    verdict
}

fn give_up() {
    allowance().settle(GRANTED.take(), None);
}

/// The input of a call.
///
/// # Safety
///
/// There must be `len` bytes at `start`, which stay as they are for `'a`.
#[expect(unsafe_code, reason = "bytes of the library")]
unsafe fn input<'a>(start: *const c_void, len: usize) -> &'a [u8] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts(start.cast(), len) }
}

/// Sets `rd_gz_decompress`.
///
/// # Safety
///
/// As the library calls `real`.
#[expect(unsafe_code, reason = "a call of the library on the way to another of its calls")]
pub unsafe fn gzip(real: Gzip, compressed: *const c_void, len: c_int, out_len: *mut u64) -> *mut c_void {
    // SAFETY: the library reads as much there.
    let bytes = unsafe { input(compressed, usize::try_from(len).unwrap_or(0)) };
    let (left, limit) = {
        let allowance = allowance();
        (allowance.left(), allowance.limit())
    };
    let most = expansion::gzip_at_most(bytes.len());
    // Counting takes a third of the time of decompressing, so what fits whatever it becomes is not counted.
    let size = if most <= left { most } else { expansion::gzip(bytes, limit) };
    match ask(size) {
        Verdict::Granted => {}
        verdict @ (Verdict::Postponed | Verdict::TooLarge) => {
            allowance().disguise(verdict);
            return ptr::null_mut();
        }
    }
    // SAFETY: as this function was called.
    let out = unsafe { real(compressed, len, out_len) };
    if out.is_null() {
        give_up();
    }
    out
}

/// Sets `rd_kafka_zstd_decompress`, and does its work: where a frame does not say its size, that one tries buffers of which
/// each is three times as large as the last, and finds no size between a third of its limit and the limit.
///
/// # Safety
///
/// As the library calls `real`.
#[expect(unsafe_code, reason = "a call of the library on the way to another of its calls")]
pub unsafe fn zstd(
    _real: Zstd,
    _broker: *mut c_void,
    compressed: *mut c_char,
    len: usize,
    out: *mut *mut c_void,
    out_len: *mut usize,
) -> c_int {
    // SAFETY: the library reads as much there.
    let most = expansion::zstd_at_most(unsafe { input(compressed.cast(), len) });
    let limit = allowance().limit();
    // The bound is too large where blocks are not full, so more than the limit is decided by the content.
    let size = most.min(limit).max(1);
    if ask(size) != Verdict::Granted {
        return POSTPONED;
    }
    // SAFETY: the buffer has as many bytes as zstd is told, and is the library's own once this returns 0: it is of the C
    // library, as the library's `rd_free` wants it. What a batch does not fill of it is given back.
    unsafe {
        let buffer = malloc(size);
        if buffer.is_null() {
            give_up();
            return POSTPONED;
        }
        let filled = ZSTD_decompress(buffer, size, compressed.cast(), len);
        if ZSTD_isError(filled) != 0 {
            free(buffer);
            give_up();
            return if most > limit { TOO_LARGE } else { BAD_COMPRESSION };
        }
        let smaller = realloc(buffer, filled.max(1));
        out.write(if smaller.is_null() { buffer } else { smaller });
        out_len.write(filled);
    }
    0
}

/// Sets `rd_kafka_lz4_decompress`.
///
/// # Safety
///
/// As the library calls `real`.
#[expect(unsafe_code, reason = "a call of the library on the way to another of its calls")]
#[expect(clippy::too_many_arguments, reason = "as many as the library's own")]
pub unsafe fn lz4(
    real: Lz4,
    broker: *mut c_void,
    proper: c_int,
    offset: i64,
    compressed: *mut c_char,
    len: usize,
    out: *mut *mut c_void,
    out_len: *mut usize,
) -> c_int {
    // SAFETY: the library reads as much there.
    match ask(expansion::lz4(unsafe { input(compressed.cast(), len) })) {
        Verdict::Granted => {}
        Verdict::Postponed => return POSTPONED,
        Verdict::TooLarge => return TOO_LARGE,
    }
    // SAFETY: as this function was called.
    let error = unsafe { real(broker, proper, offset, compressed, len, out, out_len) };
    if error != 0 {
        give_up();
    }
    error
}

/// Sets `rd_kafka_snappy_uncompressed_length`, after which the library takes memory for as much.
///
/// # Safety
///
/// As the library calls `real`.
#[expect(unsafe_code, reason = "a call of the library on the way to another of its calls")]
pub unsafe fn snappy_length(real: SnappyLength, compressed: *const c_char, len: usize, out_len: *mut usize) -> bool {
    if !IN_CHUNKS.get() {
        // SAFETY: the library reads as much there.
        let size = expansion::snappy(unsafe { input(compressed.cast(), len) });
        match ask(size.unwrap_or(0)) {
            Verdict::Granted => {}
            verdict @ (Verdict::Postponed | Verdict::TooLarge) => {
                allowance().disguise(verdict);
                return false;
            }
        }
    }
    // SAFETY: as this function was called.
    unsafe { real(compressed, len, out_len) }
}

/// Sets `rd_kafka_snappy_java_uncompress`.
///
/// # Safety
///
/// As the library calls `real`.
#[expect(unsafe_code, reason = "a call of the library on the way to another of its calls")]
pub unsafe fn snappy_java(
    real: SnappyJava,
    chunks: *const c_char,
    len: usize,
    out_len: *mut usize,
    error: *mut c_char,
    error_len: usize,
) -> *mut c_char {
    // SAFETY: the library reads as much there.
    match ask(expansion::snappy_java(unsafe { input(chunks.cast(), len) })) {
        Verdict::Granted => {}
        verdict @ (Verdict::Postponed | Verdict::TooLarge) => {
            allowance().disguise(verdict);
            // SAFETY: there is room for that many characters; the library prints them when it debugs.
            unsafe {
                if error_len > 0 {
                    error.write(0);
                }
            }
            return ptr::null_mut();
        }
    }
    IN_CHUNKS.set(true);
    // SAFETY: as this function was called.
    let out = unsafe { real(chunks, len, out_len, error, error_len) };
    IN_CHUNKS.set(false);
    if out.is_null() {
        give_up();
    }
    out
}

/// Sets `rd_kafka_buf_new_shadow`, which takes over a buffer: that of a batch, where this thread was granted one.
///
/// # Safety
///
/// As the library calls `real`.
#[expect(unsafe_code, reason = "a call of the library on the way to another of its calls")]
pub unsafe fn shadow(real: Shadow, content: *const c_void, len: usize, free: Option<Free>) -> *mut c_void {
    let granted = GRANTED.take();
    let free = match free {
        Some(_) if granted > 0 && !content.is_null() => {
            allowance().settle(granted, Some((content.addr(), len)));
            Some(free_counted as Free)
        }
        free => free,
    };
    // SAFETY: as this function was called; `free_counted` frees as the library's own function does.
    unsafe { real(content, len, free) }
}

/// Has the client library of this program ask before it decompresses: the functions that `build.rs` sets before the
/// library's own. For the root of a program of this package.
#[doc(hidden)]
#[macro_export]
macro_rules! bound_decompression {
    () => {
        #[cfg(all(feature = "kafka", target_os = "linux"))]
        #[allow(unsafe_code, unreachable_pub, missing_docs, reason = "called by librdkafka, which calls it as its own")]
        mod decompression {
            use std::ffi::{c_char, c_int, c_void};

            use $crate::kafka::decompress::{self, Free};

            $crate::bound_decompression! {
                rd_gz_decompress __wrap_rd_gz_decompress __real_rd_gz_decompress gzip
                    (a: *const c_void, b: c_int, c: *mut u64) -> *mut c_void;
                rd_kafka_zstd_decompress __wrap_rd_kafka_zstd_decompress __real_rd_kafka_zstd_decompress zstd
                    (a: *mut c_void, b: *mut c_char, c: usize, d: *mut *mut c_void, e: *mut usize) -> c_int;
                rd_kafka_lz4_decompress __wrap_rd_kafka_lz4_decompress __real_rd_kafka_lz4_decompress lz4
                    (a: *mut c_void, b: c_int, c: i64, d: *mut c_char, e: usize, f: *mut *mut c_void, g: *mut usize) -> c_int;
                rd_kafka_snappy_uncompressed_length __wrap_rd_kafka_snappy_uncompressed_length
                    __real_rd_kafka_snappy_uncompressed_length snappy_length
                    (a: *const c_char, b: usize, c: *mut usize) -> bool;
                rd_kafka_snappy_java_uncompress __wrap_rd_kafka_snappy_java_uncompress
                    __real_rd_kafka_snappy_java_uncompress snappy_java
                    (a: *const c_char, b: usize, c: *mut usize, d: *mut c_char, e: usize) -> *mut c_char;
                rd_kafka_buf_new_shadow __wrap_rd_kafka_buf_new_shadow __real_rd_kafka_buf_new_shadow shadow
                    (a: *const c_void, b: usize, c: Option<Free>) -> *mut c_void;
            }
        }
    };
    ($($name:ident $wrap:ident $real:ident $function:ident ($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        unsafe extern "C" {
            $(fn $real($($argument: $type),*) -> $result;)*
        }
        $(
            #[doc = concat!("Stands before librdkafka's `", stringify!($name), "`.")]
            ///
            /// # Safety
            ///
            /// As the library calls its own.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $wrap($($argument: $type),*) -> $result {
                // SAFETY: as this function is called.
                unsafe { decompress::$function($real, $($argument),*) }
            }
        )*
    };
}
