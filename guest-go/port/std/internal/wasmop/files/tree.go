package files

import "sync"

// Errno is an error number of WASI preview 1.
type Errno uint16

// The errors of this package.
const (
	OK        Errno = 0
	EBADF     Errno = 8
	EEXIST    Errno = 20
	EINVAL    Errno = 28
	EISDIR    Errno = 31
	ELOOP     Errno = 32
	ENOENT    Errno = 44
	ENOTDIR   Errno = 54
	ENOTEMPTY Errno = 55
	EPERM     Errno = 63
)

// Kind is a file type of WASI preview 1.
type Kind uint8

// The kinds of files in a tree.
const (
	Device       Kind = 2 // discards writes and has no content, like /dev/null
	Directory    Kind = 3
	Regular      Kind = 4
	SymbolicLink Kind = 7 // its content is a path
)

// maxLinks is the number of symbolic links in one path, as on Linux.
const maxLinks = 40

// Root is the descriptor of the root directory. It is open from the start.
const Root int32 = 3

// Info describes a file.
type Info struct {
	Kind Kind
	// Node identifies the file in its tree.
	Node uint64
	Size uint64
	// Modified is in nanoseconds since 1970.
	Modified uint64
}

// Tree is a file system and its open files. Its methods may be called concurrently.
type Tree struct {
	clock func() uint64

	mu       sync.Mutex
	root     *node
	open     map[int32]*handle
	lastNode uint64
}

type node struct {
	info   Info
	parent *node // of a directory; that of the root is the root
	// entries is nil except for directories.
	entries map[string]*node
	content []byte
}

// handle is an open file.
type handle struct {
	node    *node
	offset  uint64
	appends bool
	writes  bool
	// listing holds the entries of a directory as they were when it was read from its beginning.
	listing []Entry
}

// New returns a tree with an empty root directory. clock returns the time in nanoseconds since 1970.
func New(clock func() uint64) *Tree {
	t := &Tree{clock: clock, open: map[int32]*handle{}}
	t.root = t.newNode(Directory)
	t.root.parent = t.root
	t.open[Root] = &handle{node: t.root}
	return t
}

// Put creates a file or replaces its content, and creates the directories above it. path is relative to the root.
func (t *Tree) Put(path string, kind Kind, content []byte) Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	dir := t.root
	names := split(path)
	for _, name := range names[:len(names)-1] {
		next := dir.entries[name]
		if next == nil {
			next = t.newNode(Directory)
			dir.add(name, next)
		}
		if next.entries == nil {
			return ENOTDIR
		}
		dir = next
	}
	file := t.newNode(kind)
	file.content = content
	dir.add(names[len(names)-1], file)
	return OK
}

func (t *Tree) newNode(kind Kind) *node {
	t.lastNode++
	n := &node{info: Info{Kind: kind, Node: t.lastNode, Modified: t.clock()}}
	if kind == Directory {
		n.entries = map[string]*node{}
	}
	return n
}

func (n *node) add(name string, child *node) {
	n.entries[name] = child
	if child.entries != nil {
		child.parent = n
	}
}

func (n *node) describe() Info {
	info := n.info
	info.Size = uint64(len(n.content))
	return info
}

// split returns the names in a path, without empty ones and ".". It returns at least one name, which is "" for the
// directory itself.
func split(path string) []string {
	var names []string
	for begin := 0; begin < len(path); {
		end := begin
		for end < len(path) && path[end] != '/' {
			end++
		}
		if name := path[begin:end]; name != "" && name != "." {
			names = append(names, name)
		}
		begin = end + 1
	}
	if len(names) == 0 {
		return []string{""}
	}
	return names
}

// parentOf returns the directory that has the last name of a path, and that name. The name is "" if the path names the
// directory itself. Symbolic links are followed; one at the end only with follow.
func (t *Tree) parentOf(dir int32, path string, follow bool) (*node, string, Errno) {
	h := t.open[dir]
	if h == nil {
		return nil, "", EBADF
	}
	at, links := h.node, 0
	for names := split(path); ; names = names[1:] {
		name, last := names[0], len(names) == 1
		if at.entries == nil {
			return nil, "", ENOTDIR
		}
		child := at.entries[name]
		switch {
		case name == "" || name == "..":
			if name == ".." {
				at = at.parent
			}
			if last {
				return at, "", OK
			}
		case child != nil && child.info.Kind == SymbolicLink && (follow || !last):
			if links++; links > maxLinks {
				return nil, "", ELOOP
			}
			target := string(child.content)
			if target[0] == '/' {
				at = t.root
			}
			// The loop drops the first name, which is that of the link.
			names = append(append([]string{name}, split(target)...), names[1:]...)
		case last:
			return at, name, OK
		case child == nil:
			return nil, "", ENOENT
		default:
			at = child
		}
	}
}

// find returns the file at a path.
func (t *Tree) find(dir int32, path string, follow bool) (*node, Errno) {
	at, name, errno := t.parentOf(dir, path, follow)
	if errno != OK || name == "" {
		return at, errno
	}
	if at.entries[name] == nil {
		return nil, ENOENT
	}
	return at.entries[name], OK
}
