//! The profile `RuntimeDefault`: which system calls a container may make. Pure.
//!
//! It allows what programs need and nothing that reaches beyond the container: everything else is answered with EPERM.
//! What a capability governs is allowed to containers that have it. The names are the kernel's (`syscall.tbl` of x86, its
//! 32-bit half included, and of arm64); one that this kernel or libseccomp does not know is passed over by runc.

use serde_json::{Value, json};
use weft_api::view::pod::{Container, Pod};

/// `EPERM`.
const EPERM: u32 = 1;
/// `ENOSYS`: the C library then tries the older call.
const ENOSYS: u32 = 38;
/// `CLONE_NEW…`: the flags of `clone` that make namespaces, which is how most ways out begin.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// `AF_VSOCK`: a way to the host of a virtual machine that no network policy sees.
const AF_VSOCK: u64 = 40;
/// Execution domains of `personality` that change no more than what `uname` says: Linux, 32-bit, and a query.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Allowed to everybody.
const ALLOWED: &str = "
    _llseek _newselect accept accept4 access adjtimex alarm arch_prctl arm_fadvise64_64
    arm_sync_file_range bind breakpoint brk cacheflush cachestat capget capset chdir chmod chown chown32
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 execve
    execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir
    fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr file_getattr
    file_setattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat fstatat64 fstatfs
    fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv
    futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid
    getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid
    getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
    getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents
    io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link
    linkat listen listmount listxattr listxattrat llistxattr llseek lremovexattr lseek lsetxattr
    lsm_get_self_attr lsm_list_modules lstat lstat64 madvise map_shadow_stack membarrier memfd_create
    memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt
    mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
    mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
    munmap name_to_handle_at nanosleep newfstatat nice open openat openat2 pause pidfd_open
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl
    pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6
    pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom
    recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat
    renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity
    sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop
    semtimedop semtimedop_time64 sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list
    set_thread_area set_tid_address set_tls setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32
    setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr
    setxattrat shmat shmctl shmdt shmget shutdown sigaction sigaltstack signal signalfd signalfd4
    sigpending sigprocmask sigreturn sigsuspend socketcall socketpair splice stat stat64 statfs statfs64
    statmount statx symlink symlinkat sync sync_file_range sync_file_range2 syncfs sysinfo tee tgkill
    time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
    times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat
    utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
";

/// Allowed to who has the capability.
const BY_CAPABILITY: [(&str, &[&str]); 14] = [
    ("CAP_BPF", &["bpf"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_PERFMON", &["perf_event_open"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYSLOG", &["syslog"]),
];

/// Whether a container asks for the profile, itself or by its Pod. Privileged ones are never confined.
pub(crate) fn is_asked(pod: &Pod, container: &Container) -> bool {
    let own = container.security_context.as_ref();
    let asked =
        own.and_then(|c| c.seccomp_profile.as_ref()).or(pod.spec.security_context.seccomp_profile.as_ref());
    asked.is_some_and(|p| p.type_ == "RuntimeDefault") && !own.is_some_and(|c| c.privileged)
}

/// `linux.seccomp` for a container with these capabilities (`CAP_…`).
pub(crate) fn profile(capabilities: &[String]) -> Value {
    let allow = |names: &[&str]| json!({ "names": names, "action": "SCMP_ACT_ALLOW" });
    let compare = |op: &str, value: u64, second: u64| json!({ "index": 0, "op": op, "value": value, "valueTwo": second });
    let allow_if = |name: &str, comparison: Value| json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": [comparison] });
    let everybodys: Vec<&str> = ALLOWED.split_whitespace().collect();
    let mut rules = vec![allow(&everybodys), allow_if("socket", compare("SCMP_CMP_NE", AF_VSOCK, 0))];
    rules.extend(PERSONALITIES.map(|p| allow_if("personality", compare("SCMP_CMP_EQ", p, 0))));
    let has = |name: &str| capabilities.iter().any(|c| c == name);
    rules.extend(BY_CAPABILITY.iter().filter(|(name, _)| has(name)).map(|(_, calls)| allow(calls)));
    if !has("CAP_SYS_ADMIN") {
        rules.push(allow_if("clone", compare("SCMP_CMP_MASKED_EQ", CLONE_NAMESPACES, 0)));
        // Its flags lie in memory, where a filter cannot look.
        rules.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": architectures(),
        "syscalls": rules,
    })
}

/// The machine's own instruction set, and the older ones it runs too.
fn architectures() -> &'static [&'static str] {
    match std::env::consts::ARCH {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(profile: &Value, name: &str) -> bool {
        let rules = profile["syscalls"].as_array().unwrap();
        let plain = |r: &&Value| r["action"] == "SCMP_ACT_ALLOW" && r.get("args").is_none();
        rules.iter().filter(plain).any(|r| r["names"].as_array().unwrap().contains(&json!(name)))
    }

    #[test]
    fn what_reaches_beyond_the_container_needs_its_capability() {
        let bare = profile(&[]);
        for name in [
            "mount",
            "unshare",
            "setns",
            "bpf",
            "reboot",
            "init_module",
            "ptrace_x",
            "io_uring_setup",
            "keyctl",
        ] {
            assert!(!allowed(&bare, name), "{name}");
        }
        assert!(allowed(&bare, "read") && allowed(&bare, "execve") && allowed(&bare, "futex"));
        let admin = profile(&["CAP_SYS_ADMIN".to_owned()]);
        assert!(allowed(&admin, "mount") && allowed(&admin, "clone3") && !allowed(&admin, "reboot"));
    }

    #[test]
    fn the_lists_are_sorted_and_say_nothing_twice() {
        let all: Vec<&str> = ALLOWED.split_whitespace().collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        for (capability, calls) in BY_CAPABILITY {
            assert!(calls.iter().all(|c| !all.contains(c)), "{capability}");
        }
    }
}
