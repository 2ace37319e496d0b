package files

import (
	"cmp"
	"slices"
)

// Whence says what the offset of a Seek is relative to.
type Whence uint8

// The values of Whence in WASI preview 1.
const (
	Start Whence = iota
	Current
	End
)

// Entry is an entry of a directory.
type Entry struct {
	Name string
	Info Info
}

// Close closes a file.
func (t *Tree) Close(fd int32) Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[fd] == nil {
		return EBADF
	}
	delete(t.open, fd)
	return OK
}

// Describe returns the state of an open file.
func (t *Tree) Describe(fd int32) (Info, Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[fd]
	if h == nil {
		return Info{}, EBADF
	}
	return h.node.describe(), OK
}

// Read reads from the file's offset. It returns 0 at the end.
func (t *Tree) Read(fd int32, p []byte) (int, Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[fd]
	if h == nil {
		return 0, EBADF
	}
	n, errno := h.node.readAt(p, h.offset)
	h.offset += uint64(n)
	return n, errno
}

// ReadAt reads from an offset.
func (t *Tree) ReadAt(fd int32, p []byte, offset uint64) (int, Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[fd]
	if h == nil {
		return 0, EBADF
	}
	return h.node.readAt(p, offset)
}

func (n *node) readAt(p []byte, offset uint64) (int, Errno) {
	if n.entries != nil {
		return 0, EISDIR
	}
	if offset >= uint64(len(n.content)) {
		return 0, OK
	}
	return copy(p, n.content[offset:]), OK
}

// Write writes at the file's offset, or at the end.
func (t *Tree) Write(fd int32, p []byte) (int, Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[fd]
	if h == nil {
		return 0, EBADF
	}
	if h.appends {
		h.offset = uint64(len(h.node.content))
	}
	n, errno := t.writeAt(h, p, h.offset)
	h.offset += uint64(n)
	return n, errno
}

// WriteAt writes at an offset.
func (t *Tree) WriteAt(fd int32, p []byte, offset uint64) (int, Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[fd]
	if h == nil {
		return 0, EBADF
	}
	return t.writeAt(h, p, offset)
}

func (t *Tree) writeAt(h *handle, p []byte, offset uint64) (int, Errno) {
	if !h.writes {
		return 0, EBADF
	}
	if h.node.info.Kind == Device {
		return len(p), OK
	}
	h.node.resize(max(uint64(len(h.node.content)), offset+uint64(len(p))))
	h.node.info.Modified = t.clock()
	return copy(h.node.content[offset:], p), OK
}

func (n *node) resize(size uint64) {
	have := uint64(len(n.content))
	if size <= have {
		clear(n.content[size:])
		n.content = n.content[:size]
		return
	}
	// append grows the capacity in steps; what lies between the length and the capacity is zero.
	n.content = append(n.content, make([]byte, size-have)...)
}

// Truncate sets the size of an open file.
func (t *Tree) Truncate(fd int32, size uint64) Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[fd]
	switch {
	case h == nil || !h.writes:
		return EBADF
	case h.node.info.Kind != Regular:
		return EINVAL
	}
	h.node.resize(size)
	h.node.info.Modified = t.clock()
	return OK
}

// Seek sets the offset of an open file.
func (t *Tree) Seek(fd int32, offset int64, whence Whence) (uint64, Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[fd]
	if h == nil {
		return 0, EBADF
	}
	var base uint64
	switch whence {
	case Start:
	case Current:
		base = h.offset
	case End:
		base = uint64(len(h.node.content))
	default:
		return 0, EINVAL
	}
	at := int64(base) + offset
	if at < 0 {
		return 0, EINVAL
	}
	h.offset = uint64(at)
	return h.offset, OK
}

// ReadDir returns the entries of a directory from a position on, in the order of their names. Position 0 reads the
// directory again; later positions continue in what was read then.
func (t *Tree) ReadDir(fd int32, position uint64) ([]Entry, Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[fd]
	switch {
	case h == nil:
		return nil, EBADF
	case h.node.entries == nil:
		return nil, ENOTDIR
	}
	if position == 0 {
		h.listing = h.node.list()
	}
	if position > uint64(len(h.listing)) {
		return nil, EINVAL
	}
	return h.listing[position:], OK
}

func (n *node) list() []Entry {
	entries := make([]Entry, 0, len(n.entries))
	for name, child := range n.entries {
		entries = append(entries, Entry{Name: name, Info: child.describe()})
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return entries
}
