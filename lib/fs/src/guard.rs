//! Page faults on files that were cut while they were mapped: instead of ending the process, zeros are put where the file
//! was, and the mapping is marked.
//!
//! Reading a page of a mapping behind the file's end raises SIGBUS. The handler here looks whether the address lies in one
//! of our regions; if so it maps an anonymous page of zeros there and notes it, and the read goes on. Faults elsewhere go
//! to whoever handled them before. Cost: nothing until a fault; one list entry of 40 bytes for each mapping.
#![allow(unsafe_code)]
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

/// A guarded range of addresses. Never freed, because a handler may be looking at it; used again instead.
#[derive(Debug)]
pub(crate) struct Region {
    start: AtomicUsize,
    end: AtomicUsize,
    torn: AtomicBool,
    next: AtomicPtr<Region>,
}

/// All regions there ever were, newest first.
static REGIONS: AtomicPtr<Region> = AtomicPtr::new(ptr::null_mut());
/// Those that nobody uses.
static FREE: Mutex<Vec<&'static Region>> = Mutex::new(Vec::new());
static FAULTS: AtomicU64 = AtomicU64::new(0);
static INSTALL: Once = Once::new();

/// How many page faults were caught since the process began.
pub fn faults_caught() -> u64 {
    FAULTS.load(Ordering::Relaxed)
}

/// Guards a mapping. It must be given back with [`release`] before it is unmapped.
pub(crate) fn guard(start: usize, len: usize) -> &'static Region {
    INSTALL.call_once(install);
    let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let region = free.unwrap_or_else(|| {
        let new: &'static Region = Box::leak(Box::new(Region {
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            torn: AtomicBool::new(false),
            next: AtomicPtr::new(ptr::null_mut()),
        }));
        let mut first = REGIONS.load(Ordering::Acquire);
        loop {
            new.next.store(first, Ordering::Relaxed);
            let me = ptr::from_ref(new).cast_mut();
            match REGIONS.compare_exchange(first, me, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return new,
                Err(now) => first = now,
            }
        }
    });
    region.torn.store(false, Ordering::Relaxed);
    region.end.store(start.saturating_add(len), Ordering::Relaxed);
    region.start.store(start, Ordering::Release);
    region
}

pub(crate) fn release(region: &'static Region) {
    region.start.store(0, Ordering::Release);
    FREE.lock().unwrap_or_else(PoisonError::into_inner).push(region);
}

impl Region {
    /// Whether zeros stand where bytes of the file stood.
    pub(crate) fn is_torn(&self) -> bool {
        self.torn.load(Ordering::Acquire)
    }
}

/// What handled SIGBUS before us. Written once, before our handler is in place.
struct Previous(UnsafeCell<MaybeUninit<libc::sigaction>>);
// SAFETY: written only inside `INSTALL`, read only by the handler that is installed after the write.
unsafe impl Sync for Previous {}
static PREVIOUS: Previous = Previous(UnsafeCell::new(MaybeUninit::zeroed()));

fn install() {
    // SAFETY: plain calls of sigaction with structures of ours. The previous action is read before ours is set, so the
    // handler never sees it unset. SA_ONSTACK: the standard library gives every thread a stack for handlers.
    unsafe {
        libc::sigaction(libc::SIGBUS, ptr::null(), PREVIOUS.0.get().cast());
        let mut ours: libc::sigaction = std::mem::zeroed();
        ours.sa_sigaction = handler as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut ours.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut());
    }
}

/// Runs in a signal: only atomics, mmap and sigaction.
extern "C" fn handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo; regions are never freed; the page that is replaced lies in a mapping that
    // its owner cannot unmap, since the faulting thread is reading it. errno is the interrupted code's and put back.
    unsafe {
        let address = (*info).si_addr() as usize;
        let mut region = REGIONS.load(Ordering::Acquire);
        while let Some(r) = region.as_ref() {
            let start = r.start.load(Ordering::Acquire);
            if start != 0 && (start..r.end.load(Ordering::Relaxed)).contains(&address) {
                let errno = *libc::__errno_location();
                let page = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).unwrap_or(4096);
                r.torn.store(true, Ordering::Release);
                let zeros = libc::mmap(
                    (address & !(page - 1)) as *mut libc::c_void,
                    page,
                    libc::PROT_READ,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                    -1,
                    0,
                );
                *libc::__errno_location() = errno;
                if zeros != libc::MAP_FAILED {
                    FAULTS.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                break;
            }
            region = r.next.load(Ordering::Acquire);
        }
        pass_on(signal, info, context);
    }
}

/// SAFETY: to be called from a handler of the signal.
unsafe fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: PREVIOUS was written before our handler was installed, and what it holds came from the kernel.
    unsafe {
        let previous = (*PREVIOUS.0.get()).assume_init_ref();
        if previous.sa_sigaction == libc::SIG_DFL || previous.sa_sigaction == libc::SIG_IGN {
            // The fault happens again and ends the process, as it would have without us.
            libc::signal(signal, libc::SIG_DFL);
        } else if previous.sa_flags & libc::SA_SIGINFO != 0 {
            type Action = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            std::mem::transmute::<usize, Action>(previous.sa_sigaction)(signal, info, context);
        } else {
            std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(previous.sa_sigaction)(signal);
        }
    }
}
