//! A clock that tests can turn, for a process that is started with this library preloaded (`LD_PRELOAD`).
//!
//! `CLOCK_FILE` names a file of four native 64-bit numbers, which may change while the process runs: the seconds that
//! the wall clock is ahead, how many times faster than in reality all time passes, since when it does, in real
//! nanoseconds of the wall clock, and whether the main thread stops at its next look at a clock (not 0). Only what the
//! operator uses is turned: reading a clock and waiting for events.
//!
//! It takes the place of functions of the C library, so nothing may be linked to it.

use std::{
    ffi::c_int,
    fs::File,
    os::fd::AsRawFd,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicI64, Ordering},
    },
};

use libc::{clockid_t, epoll_event, timespec};

const SECOND: i128 = 1_000_000_000;

/// The file.
#[repr(C)]
struct Control {
    ahead: AtomicI64,
    speed: AtomicI64,
    since: AtomicI64,
    main_stopped: AtomicI64,
}

/// The file in memory, or nothing where it cannot be had: then time is as it is.
fn control() -> Option<&'static Control> {
    static CONTROL: OnceLock<Option<&'static Control>> = OnceLock::new();
    *CONTROL.get_or_init(|| {
        let file = File::open(std::env::var_os("CLOCK_FILE")?).ok()?;
        // SAFETY: the file is of this size and is never truncated; the mapping stays for good
        unsafe {
            let size = size_of::<Control>();
            let at =
                libc::mmap(ptr::null_mut(), size, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
            (at != libc::MAP_FAILED).then(|| &*at.cast_const().cast::<Control>())
        }
    })
}

impl Control {
    /// Holds the main thread while it is to be stopped.
    fn stop_main(&self) {
        // SAFETY: neither has preconditions
        let is_main = unsafe { libc::gettid() == libc::getpid() };
        while is_main && self.main_stopped.load(Ordering::Relaxed) != 0 {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// What a clock shows that really shows `time`, both in nanoseconds.
    fn turned(&self, clock: clockid_t, time: i128) -> i128 {
        let speed = i128::from(self.speed.load(Ordering::Relaxed));
        match clock {
            libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => {
                let since = i128::from(self.since.load(Ordering::Relaxed));
                let ahead = i128::from(self.ahead.load(Ordering::Relaxed)) * SECOND;
                since + (time - since) * speed + ahead
            }
            libc::CLOCK_MONOTONIC
            | libc::CLOCK_MONOTONIC_COARSE
            | libc::CLOCK_MONOTONIC_RAW
            | libc::CLOCK_BOOTTIME => time * speed,
            _ => time,
        }
    }
}

/// As the function of that name in the C library.
///
/// # Safety
/// As there: `time` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the arguments are the caller's, and `time` holds a time once the call has succeeded
    unsafe {
        let result = libc::syscall(libc::SYS_clock_gettime, clock, time);
        if result == 0
            && let Some(control) = control()
        {
            control.stop_main();
            let real = i128::from((*time).tv_sec) * SECOND + i128::from((*time).tv_nsec);
            let turned = control.turned(clock, real);
            (*time).tv_sec = i64::try_from(turned.div_euclid(SECOND)).unwrap_or(i64::MAX);
            (*time).tv_nsec = i64::try_from(turned.rem_euclid(SECOND)).unwrap_or_default();
        }
        c_int::from(result != 0).wrapping_neg()
    }
}

/// As the function of that name in the C library, with a time-out that passes as fast as the clock.
///
/// # Safety
/// As there: `count` elements of `events` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: c_int,
) -> c_int {
    let speed = control().map_or(1, |control| control.speed.load(Ordering::Relaxed));
    let timeout = match c_int::try_from(speed) {
        Ok(speed) if timeout > 0 => (timeout / speed).max(1),
        _ => timeout,
    };
    // SAFETY: the arguments are the caller's; without a mask of signals this is epoll_wait
    unsafe { libc::epoll_pwait(epoll, events, count, timeout, ptr::null()) }
}
