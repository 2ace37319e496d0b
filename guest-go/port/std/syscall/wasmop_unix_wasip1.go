package syscall

// Names that libraries use on every system but Windows, with the values of Linux. The calls fail, since there is no
// operating system, except for locks on files: nobody else opens them.

const (
	LOCK_SH = 0x1
	LOCK_EX = 0x2
	LOCK_NB = 0x4
	LOCK_UN = 0x8

	PROT_NONE   = 0x0
	PROT_READ   = 0x1
	PROT_WRITE  = 0x2
	MAP_SHARED  = 0x1
	MAP_PRIVATE = 0x2

	RUSAGE_SELF = 0x0

	TIOCGWINSZ = 0x5413
)

// Statfs_t describes a file system.
type Statfs_t struct {
	Type, Bsize, Frsize, Flags          int64
	Blocks, Bfree, Bavail, Files, Ffree uint64
}

// Utsname describes a system.
type Utsname struct{ Sysname, Nodename, Release, Version, Machine, Domainname [65]int8 }

// Sysinfo_t describes the use of a system.
type Sysinfo_t struct {
	Uptime                       int64
	Totalram, Freeram, Totalswap uint64
	Procs                        uint16
	Unit                         uint32
}

// Credential is the user of a process.
type Credential struct {
	Uid, Gid    uint32
	Groups      []uint32
	NoSetGroups bool
}

func Access(string, uint32) error                    { return ENOSYS }
func Exec(string, []string, []string) error          { return ENOSYS }
func Flock(int, int) error                           { return nil }
func Getpgid(int) (int, error)                       { return 0, ENOSYS }
func Mkfifo(string, uint32) error                    { return ENOSYS }
func Mmap(int, int64, int, int, int) ([]byte, error) { return nil, ENOSYS }
func Munmap([]byte) error                            { return ENOSYS }
func Setpgid(int, int) error                         { return ENOSYS }
func Setuid(int) error                               { return ENOSYS }
func Setgid(int) error                               { return ENOSYS }
func Statfs(string, *Statfs_t) error                 { return ENOSYS }
func Sysinfo(*Sysinfo_t) error                       { return ENOSYS }
func Uname(*Utsname) error                           { return ENOSYS }
