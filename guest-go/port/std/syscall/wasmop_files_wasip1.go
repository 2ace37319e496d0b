package syscall

import (
	"internal/wasmop/files"
	"unsafe"
)

// The functions of WASI on files, on a tree in memory. Standard input and output are the host's.
//
// The port rule `files` renames the imports that these functions replace: fd_write is host_fd_write.

var wasmopFiles = newWasmopFiles()

func newWasmopFiles() *files.Tree {
	tree := files.New(func() uint64 {
		sec, nsec := now()
		return uint64(sec)*1e9 + uint64(nsec)
	})
	tree.Put("dev/null", files.Device, nil)
	for _, dir := range []string{"tmp", "root"} {
		tree.Mkdir(files.Root, dir)
	}
	return tree
}

// wasmopPutFile creates a file of the Pod that the program believes to run in.
func wasmopPutFile(path string, content []byte) { wasmopFiles.Put(path, files.Regular, content) }

func isStandardStream(fd int32) bool { return fd < files.Root }

func wasmopPath(path *byte, n size) string { return unsafe.String(path, n) }

// wasmopBytes returns the memory of the only element of iovs; package syscall uses no more.
func wasmopBytes(iovs *iovec) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(uintptr(iovs.buf))), iovs.bufLen)
}

func wasmopCount(n int, errno files.Errno, count *size) Errno {
	*count = size(n)
	return Errno(errno)
}

// wasmopStat writes a filestat.
func wasmopStat(info files.Info, buf unsafe.Pointer) {
	type filestat struct {
		device, node       uint64
		kind               uint8
		links, size        uint64
		accessed, modified uint64
		statusChanged      uint64
	}
	*(*filestat)(buf) = filestat{
		device: 1, node: info.Node, kind: uint8(info.Kind), links: 1, size: info.Size,
		accessed: info.Modified, modified: info.Modified, statusChanged: info.Modified,
	}
}

func fd_close(fd int32) Errno {
	if isStandardStream(fd) {
		return host_fd_close(fd)
	}
	return Errno(wasmopFiles.Close(fd))
}

func fd_filestat_set_size(fd int32, set_size filesize) Errno {
	if isStandardStream(fd) {
		return EINVAL
	}
	return Errno(wasmopFiles.Truncate(fd, set_size))
}

func fd_pread(fd int32, iovs *iovec, iovsLen size, offset filesize, nread *size) Errno {
	if isStandardStream(fd) {
		return ESPIPE
	}
	n, errno := wasmopFiles.ReadAt(fd, wasmopBytes(iovs), offset)
	return wasmopCount(n, errno, nread)
}

func fd_pwrite(fd int32, iovs *iovec, iovsLen size, offset filesize, nwritten *size) Errno {
	if isStandardStream(fd) {
		return ESPIPE
	}
	n, errno := wasmopFiles.WriteAt(fd, wasmopBytes(iovs), offset)
	return wasmopCount(n, errno, nwritten)
}

func fd_read(fd int32, iovs *iovec, iovsLen size, nread *size) Errno {
	if isStandardStream(fd) {
		return host_fd_read(fd, iovs, iovsLen, nread)
	}
	n, errno := wasmopFiles.Read(fd, wasmopBytes(iovs))
	return wasmopCount(n, errno, nread)
}

func fd_write(fd int32, iovs *iovec, iovsLen size, nwritten *size) Errno {
	if isStandardStream(fd) {
		return host_fd_write(fd, iovs, iovsLen, nwritten)
	}
	n, errno := wasmopFiles.Write(fd, wasmopBytes(iovs))
	return wasmopCount(n, errno, nwritten)
}

func fd_seek(fd int32, offset filedelta, whence uint32, newoffset *filesize) Errno {
	if isStandardStream(fd) {
		return ESPIPE
	}
	at, errno := wasmopFiles.Seek(fd, offset, files.Whence(whence))
	*newoffset = at
	return Errno(errno)
}

func fd_sync(fd int32) Errno {
	if isStandardStream(fd) {
		return 0
	}
	_, errno := wasmopFiles.Describe(fd)
	return Errno(errno)
}

func fd_filestat_get(fd int32, buf unsafe.Pointer) Errno {
	if isStandardStream(fd) {
		return host_fd_filestat_get(fd, buf)
	}
	info, errno := wasmopFiles.Describe(fd)
	if errno == files.OK {
		wasmopStat(info, buf)
	}
	return Errno(errno)
}

func fd_fdstat_get(fd int32, buf *fdstat) Errno {
	if isStandardStream(fd) {
		return host_fd_fdstat_get(fd, buf)
	}
	info, errno := wasmopFiles.Describe(fd)
	*buf = fdstat{filetype: uint8(info.Kind), rightsBase: fullRights, rightsInheriting: fullRights}
	return Errno(errno)
}

func fd_fdstat_set_flags(fd int32, flags fdflags) Errno {
	if isStandardStream(fd) {
		return host_fd_fdstat_set_flags(fd, flags)
	}
	return 0
}

func fd_prestat_get(fd int32, prestat *prestat) Errno {
	if fd != files.Root {
		return EBADF
	}
	prestat.typ = preopentypeDir
	prestat.dir.prNameLen = 1
	return 0
}

func fd_prestat_dir_name(fd int32, path *byte, pathLen size) Errno {
	*path = '/'
	return 0
}

func fd_readdir(fd int32, buf *byte, bufLen size, cookie dircookie, nwritten *size) Errno {
	entries, errno := wasmopFiles.ReadDir(fd, cookie)
	to := unsafe.Slice(buf, bufLen)
	written := 0
	for i, entry := range entries {
		// A dirent: the next cookie, the node, the length of the name, the type, padding; then the name.
		var header [24]byte
		*(*uint64)(unsafe.Pointer(&header[0])) = cookie + uint64(i) + 1
		*(*uint64)(unsafe.Pointer(&header[8])) = entry.Info.Node
		*(*uint32)(unsafe.Pointer(&header[16])) = uint32(len(entry.Name))
		header[20] = byte(entry.Info.Kind)
		// An entry that does not fit is cut, and the caller asks again from it.
		written += copy(to[written:], header[:])
		written += copy(to[written:], entry.Name)
		if written == len(to) {
			break
		}
	}
	return wasmopCount(written, errno, nwritten)
}

func path_create_directory(fd int32, path *byte, pathLen size) Errno {
	return Errno(wasmopFiles.Mkdir(fd, wasmopPath(path, pathLen)))
}

func path_filestat_get(fd int32, flags lookupflags, path *byte, pathLen size, buf unsafe.Pointer) Errno {
	info, errno := wasmopFiles.Stat(fd, wasmopPath(path, pathLen), flags&LOOKUP_SYMLINK_FOLLOW != 0)
	if errno == files.OK {
		wasmopStat(info, buf)
	}
	return Errno(errno)
}

func path_filestat_set_times(fd int32, flags lookupflags, path *byte, pathLen size, atim timestamp, mtim timestamp, fstflags fstflags) Errno {
	if fstflags&FILESTAT_SET_MTIM == 0 {
		_, errno := wasmopFiles.Stat(fd, wasmopPath(path, pathLen), flags&LOOKUP_SYMLINK_FOLLOW != 0)
		return Errno(errno)
	}
	return Errno(wasmopFiles.SetModified(fd, wasmopPath(path, pathLen), mtim))
}

func path_link(oldFd int32, oldFlags lookupflags, oldPath *byte, oldPathLen size, newFd int32, newPath *byte, newPathLen size) Errno {
	return Errno(wasmopFiles.Link(oldFd, wasmopPath(oldPath, oldPathLen), newFd, wasmopPath(newPath, newPathLen)))
}

func path_readlink(fd int32, path *byte, pathLen size, buf *byte, bufLen size, nwritten *size) Errno {
	target, errno := wasmopFiles.Readlink(fd, wasmopPath(path, pathLen))
	return wasmopCount(copy(unsafe.Slice(buf, bufLen), target), errno, nwritten)
}

func path_symlink(oldPath *byte, oldPathLen size, fd int32, newPath *byte, newPathLen size) Errno {
	return Errno(wasmopFiles.Symlink(wasmopPath(oldPath, oldPathLen), fd, wasmopPath(newPath, newPathLen)))
}

func path_remove_directory(fd int32, path *byte, pathLen size) Errno {
	return Errno(wasmopFiles.Rmdir(fd, wasmopPath(path, pathLen)))
}

func path_rename(oldFd int32, oldPath *byte, oldPathLen size, newFd int32, newPath *byte, newPathLen size) Errno {
	return Errno(wasmopFiles.Rename(oldFd, wasmopPath(oldPath, oldPathLen), newFd, wasmopPath(newPath, newPathLen)))
}

func path_unlink_file(fd int32, path *byte, pathLen size) Errno {
	return Errno(wasmopFiles.Unlink(fd, wasmopPath(path, pathLen)))
}

func path_open(rootFD int32, dirflags lookupflags, path *byte, pathLen size, oflags oflags, fsRightsBase rights, fsRightsInheriting rights, fsFlags fdflags, fd *int32) Errno {
	opened, errno := wasmopFiles.Open(rootFD, wasmopPath(path, pathLen), files.Flags{
		Create:    oflags&OFLAG_CREATE != 0,
		Exclusive: oflags&OFLAG_EXCL != 0,
		Truncate:  oflags&OFLAG_TRUNC != 0,
		Directory: oflags&OFLAG_DIRECTORY != 0,
		Follow:    dirflags&LOOKUP_SYMLINK_FOLLOW != 0,
		Write:     fsRightsBase&RIGHT_FD_WRITE != 0,
		Append:    fsFlags&FDFLAG_APPEND != 0,
	})
	*fd = opened
	return Errno(errno)
}
