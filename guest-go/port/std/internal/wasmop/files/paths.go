package files

// Flags say how a file is opened.
type Flags struct {
	Create, Exclusive, Truncate bool
	// Directory refuses other files.
	Directory bool
	// Follow opens the file to which a symbolic link points, instead of refusing the link.
	Follow bool
	// Write allows writing. Append writes at the end.
	Write, Append bool
}

// Open opens the file at a path below the open directory dir.
func (t *Tree) Open(dir int32, path string, flags Flags) (int32, Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// An exclusive file must not exist, not even as a link to nowhere.
	parent, name, errno := t.parentOf(dir, path, flags.Follow && !(flags.Create && flags.Exclusive))
	if errno != OK {
		return 0, errno
	}
	file := parent
	if name != "" {
		file = parent.entries[name]
	}
	switch {
	case file == nil && !flags.Create:
		return 0, ENOENT
	case file == nil:
		file = t.newNode(Regular)
		parent.add(name, file)
	case flags.Create && flags.Exclusive:
		return 0, EEXIST
	case file.info.Kind == SymbolicLink:
		return 0, ELOOP
	case flags.Directory && file.entries == nil:
		return 0, ENOTDIR
	case file.entries != nil && flags.Write:
		return 0, EISDIR
	case flags.Truncate && file.info.Kind == Regular:
		file.content, file.info.Modified = nil, t.clock()
	}
	fd := Root + 1
	for t.open[fd] != nil {
		fd++
	}
	t.open[fd] = &handle{node: file, appends: flags.Append, writes: flags.Write}
	return fd, OK
}

// Stat describes the file at a path. With follow, it describes the file to which a symbolic link points.
func (t *Tree) Stat(dir int32, path string, follow bool) (Info, Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	file, errno := t.find(dir, path, follow)
	if errno != OK {
		return Info{}, errno
	}
	return file.describe(), OK
}

// Mkdir creates a directory.
func (t *Tree) Mkdir(dir int32, path string) Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	parent, name, errno := t.parentOf(dir, path, false)
	if errno != OK {
		return errno
	}
	if name == "" || parent.entries[name] != nil {
		return EEXIST
	}
	parent.add(name, t.newNode(Directory))
	return OK
}

// Unlink removes a file that is not a directory. Its open descriptors keep it.
func (t *Tree) Unlink(dir int32, path string) Errno { return t.remove(dir, path, false) }

// Rmdir removes an empty directory.
func (t *Tree) Rmdir(dir int32, path string) Errno { return t.remove(dir, path, true) }

func (t *Tree) remove(dir int32, path string, directory bool) Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	parent, name, errno := t.parentOf(dir, path, false)
	if errno != OK {
		return errno
	}
	if name == "" {
		return EINVAL
	}
	file := parent.entries[name]
	switch {
	case file == nil:
		return ENOENT
	case directory && file.entries == nil:
		return ENOTDIR
	case !directory && file.entries != nil:
		return EISDIR
	case len(file.entries) > 0:
		return ENOTEMPTY
	}
	delete(parent.entries, name)
	return OK
}

// Rename moves a file. It replaces a file of the same kind at the new path.
func (t *Tree) Rename(fromDir int32, from string, toDir int32, to string) Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	source, oldName, errno := t.parentOf(fromDir, from, false)
	if errno != OK {
		return errno
	}
	target, newName, errno := t.parentOf(toDir, to, false)
	if errno != OK {
		return errno
	}
	if oldName == "" || newName == "" {
		return EINVAL
	}
	file, replaced := source.entries[oldName], target.entries[newName]
	if file == nil {
		return ENOENT
	}
	if file == replaced {
		return OK
	}
	if replaced != nil {
		switch {
		case file.entries != nil && replaced.entries == nil:
			return ENOTDIR
		case file.entries == nil && replaced.entries != nil:
			return EISDIR
		case len(replaced.entries) > 0:
			return ENOTEMPTY
		}
	}
	for at := target; file.entries != nil && at != t.root; at = at.parent {
		if at == file {
			return EINVAL // a directory cannot move into itself
		}
	}
	delete(source.entries, oldName)
	target.add(newName, file)
	return OK
}

// Link gives a file another name.
func (t *Tree) Link(fromDir int32, from string, toDir int32, to string) Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	file, errno := t.find(fromDir, from, false)
	if errno != OK {
		return errno
	}
	if file.entries != nil {
		return EPERM
	}
	target, name, errno := t.parentOf(toDir, to, false)
	if errno != OK {
		return errno
	}
	if name == "" || target.entries[name] != nil {
		return EEXIST
	}
	target.add(name, file)
	return OK
}

// Symlink creates a symbolic link.
func (t *Tree) Symlink(target string, dir int32, path string) Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	if target == "" {
		return ENOENT
	}
	parent, name, errno := t.parentOf(dir, path, false)
	if errno != OK {
		return errno
	}
	if name == "" || parent.entries[name] != nil {
		return EEXIST
	}
	link := t.newNode(SymbolicLink)
	link.content = []byte(target)
	parent.add(name, link)
	return OK
}

// Readlink returns the path in a symbolic link.
func (t *Tree) Readlink(dir int32, path string) (string, Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	file, errno := t.find(dir, path, false)
	switch {
	case errno != OK:
		return "", errno
	case file.info.Kind != SymbolicLink:
		return "", EINVAL
	}
	return string(file.content), OK
}

// SetModified sets the time of the last change, in nanoseconds since 1970.
func (t *Tree) SetModified(dir int32, path string, modified uint64) Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	file, errno := t.find(dir, path, true)
	if errno == OK {
		file.info.Modified = modified
	}
	return errno
}
