// Package unix has the part of its API that libraries of kubectl, Docker and Helm mention, with the values of Linux. A
// controller has no operating system, so each call fails: a terminal is none, and other calls are not implemented.
package unix

import "syscall"

type (
	// Errno is an error number.
	Errno = syscall.Errno
	// Signal is a signal.
	Signal = syscall.Signal

	// Termios is the state of a terminal.
	Termios struct {
		Iflag, Oflag, Cflag, Lflag uint32
		Line                       uint8
		Cc                         [19]uint8
		Ispeed, Ospeed             uint32
	}
	// Winsize is the size of a terminal.
	Winsize struct{ Row, Col, Xpixel, Ypixel uint16 }
	// Timespec is a time.
	Timespec struct{ Sec, Nsec int64 }
	// Stat_t describes a file.
	Stat_t struct {
		Dev, Ino, Nlink, Rdev uint64
		Mode, Uid, Gid        uint32
		Size, Blksize, Blocks int64
		Atim, Mtim, Ctim      Timespec
	}
	// Statfs_t describes a file system.
	Statfs_t struct {
		Type, Bsize, Frsize, Flags          int64
		Blocks, Bfree, Bavail, Files, Ffree uint64
	}
	// Rlimit is a limit of a process.
	Rlimit struct{ Cur, Max uint64 }
	// Utsname describes a system.
	Utsname struct{ Sysname, Nodename, Release, Version, Machine, Domainname [65]byte }
	// Sysinfo_t describes the use of a system.
	Sysinfo_t struct {
		Uptime                                             int64
		Totalram, Freeram, Sharedram, Bufferram, Totalswap uint64
		Freeswap                                           uint64
		Procs                                              uint16
		Unit                                               uint32
	}
)

const (
	SIGHUP   = syscall.SIGHUP
	SIGINT   = syscall.SIGINT
	SIGQUIT  = syscall.SIGQUIT
	SIGKILL  = syscall.SIGKILL
	SIGTERM  = syscall.SIGTERM
	SIGPIPE  = syscall.SIGPIPE
	SIGUSR1  = syscall.SIGUSR1
	SIGUSR2  = syscall.SIGUSR2
	SIGCHLD  = syscall.SIGCHLD
	SIGCONT  = syscall.SIGCONT
	SIGSTOP  = syscall.SIGSTOP
	SIGTSTP  = syscall.SIGTSTP
	SIGWINCH = syscall.SIGWINCH

	EACCES    = syscall.EACCES
	EAGAIN    = syscall.EAGAIN
	EBADF     = syscall.EBADF
	EBUSY     = syscall.EBUSY
	EEXIST    = syscall.EEXIST
	EINTR     = syscall.EINTR
	EINVAL    = syscall.EINVAL
	EIO       = syscall.EIO
	EISDIR    = syscall.EISDIR
	ELOOP     = syscall.ELOOP
	ENOENT    = syscall.ENOENT
	ENOMEM    = syscall.ENOMEM
	ENOSPC    = syscall.ENOSPC
	ENOSYS    = syscall.ENOSYS
	ENOTDIR   = syscall.ENOTDIR
	ENOTEMPTY = syscall.ENOTEMPTY
	ENOTSUP   = syscall.ENOTSUP
	ENOTTY    = syscall.ENOTTY
	EPERM     = syscall.EPERM
	EPIPE     = syscall.EPIPE
	EROFS     = syscall.EROFS
	ESRCH     = syscall.ESRCH
	EXDEV     = syscall.EXDEV

	TCGETS     = 0x5401
	TCSETS     = 0x5402
	TCSETSW    = 0x5403
	TCSETSF    = 0x5404
	TIOCGWINSZ = 0x5413
	TIOCSWINSZ = 0x5414

	IGNBRK = 0x1
	BRKINT = 0x2
	IGNPAR = 0x4
	PARMRK = 0x8
	INPCK  = 0x10
	ISTRIP = 0x20
	INLCR  = 0x40
	IGNCR  = 0x80
	ICRNL  = 0x100
	IXON   = 0x400
	IXOFF  = 0x1000
	OPOST  = 0x1
	ISIG   = 0x1
	ICANON = 0x2
	ECHO   = 0x8
	ECHOE  = 0x10
	ECHOK  = 0x20
	ECHONL = 0x40
	IEXTEN = 0x8000
	CSIZE  = 0x30
	CS8    = 0x30
	PARENB = 0x100
	VTIME  = 0x5
	VMIN   = 0x6

	LOCK_SH = 0x1
	LOCK_EX = 0x2
	LOCK_NB = 0x4
	LOCK_UN = 0x8

	R_OK = 0x4
	W_OK = 0x2
	X_OK = 0x1
	F_OK = 0x0

	AT_FDCWD            = -0x64
	AT_SYMLINK_NOFOLLOW = 0x100
	AT_REMOVEDIR        = 0x200

	PROT_NONE  = 0x0
	PROT_READ  = 0x1
	PROT_WRITE = 0x2
	MAP_SHARED = 0x1

	RLIMIT_NOFILE = 0x7
)

func IoctlGetInt(int, uint) (int, error)             { return 0, ENOTTY }
func IoctlSetInt(int, uint, int) error               { return ENOTTY }
func IoctlGetTermios(int, uint) (*Termios, error)    { return nil, ENOTTY }
func IoctlSetTermios(int, uint, *Termios) error      { return ENOTTY }
func IoctlGetWinsize(int, uint) (*Winsize, error)    { return nil, ENOTTY }
func IoctlSetWinsize(int, uint, *Winsize) error      { return ENOTTY }
func Access(string, uint32) error                    { return ENOSYS }
func Chmod(string, uint32) error                     { return ENOSYS }
func Chown(string, int, int) error                   { return ENOSYS }
func Close(fd int) error                             { return syscall.Close(fd) }
func Exec(string, []string, []string) error          { return ENOSYS }
func Flock(int, int) error                           { return nil }
func Fstat(int, *Stat_t) error                       { return ENOSYS }
func Fsync(int) error                                { return nil }
func Getegid() int                                   { return syscall.Getegid() }
func Geteuid() int                                   { return syscall.Geteuid() }
func Getgid() int                                    { return syscall.Getgid() }
func Getpid() int                                    { return syscall.Getpid() }
func Getrlimit(int, *Rlimit) error                   { return ENOSYS }
func Getuid() int                                    { return syscall.Getuid() }
func Kill(int, Signal) error                         { return ENOSYS }
func Lgetxattr(string, string, []byte) (int, error)  { return 0, ENOTSUP }
func Lsetxattr(string, string, []byte, int) error    { return ENOTSUP }
func Lstat(string, *Stat_t) error                    { return ENOSYS }
func Mkfifo(string, uint32) error                    { return ENOSYS }
func Mknod(string, uint32, int) error                { return ENOSYS }
func Mmap(int, int64, int, int, int) ([]byte, error) { return nil, ENOSYS }
func Munmap([]byte) error                            { return ENOSYS }
func Read(fd int, p []byte) (int, error)             { return syscall.Read(fd, p) }
func Setrlimit(int, *Rlimit) error                   { return ENOSYS }
func Stat(string, *Stat_t) error                     { return ENOSYS }
func Statfs(string, *Statfs_t) error                 { return ENOSYS }
func Sysinfo(*Sysinfo_t) error                       { return ENOSYS }
func Umask(int) int                                  { return 18 }
func Uname(*Utsname) error                           { return ENOSYS }
func Write(fd int, p []byte) (int, error)            { return syscall.Write(fd, p) }

// ByteSliceToString returns the text before the first NUL.
func ByteSliceToString(s []byte) string {
	for i, b := range s {
		if b == 0 {
			return string(s[:i])
		}
	}
	return string(s)
}
