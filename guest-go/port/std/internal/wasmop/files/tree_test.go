package files

import (
	"slices"
	"testing"
)

func newTree() *Tree {
	var now uint64
	return New(func() uint64 { now++; return now })
}

func (t *Tree) write(path, content string, flags Flags) Errno {
	flags.Write = true
	fd, errno := t.Open(Root, path, flags)
	if errno != OK {
		return errno
	}
	defer t.Close(fd)
	_, errno = t.Write(fd, []byte(content))
	return errno
}

func (t *Tree) content(path string) (string, Errno) {
	fd, errno := t.Open(Root, path, Flags{})
	if errno != OK {
		return "", errno
	}
	defer t.Close(fd)
	p := make([]byte, 100)
	n, errno := t.Read(fd, p)
	return string(p[:n]), errno
}

func (t *Tree) names(path string) []string {
	fd, _ := t.Open(Root, path, Flags{Directory: true})
	defer t.Close(fd)
	entries, _ := t.ReadDir(fd, 0)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name)
	}
	return names
}

func TestAFileHasWhatWasWritten(t *testing.T) {
	create := Flags{Create: true, Truncate: true}
	for _, test := range []struct {
		name   string
		writes func(*Tree)
		want   string
	}{
		{"created", func(fs *Tree) { fs.write("f", "one", create) }, "one"},
		{"replaced", func(fs *Tree) { fs.write("f", "longer", create); fs.write("f", "two", create) }, "two"},
		{"overwritten", func(fs *Tree) { fs.write("f", "abcdef", create); fs.write("f", "xy", Flags{}) }, "xycdef"},
		{"appended", func(fs *Tree) { fs.write("f", "a", create); fs.write("f", "b", Flags{Append: true}) }, "ab"},
		{"put", func(fs *Tree) { fs.Put("/f", Regular, []byte("put")) }, "put"},
		{"renamed", func(fs *Tree) { fs.write("g", "g", create); fs.Rename(Root, "g", Root, "f") }, "g"},
		{"linked", func(fs *Tree) { fs.write("g", "g", create); fs.Link(Root, "g", Root, "f") }, "g"},
		{"a hole", func(fs *Tree) {
			fd, _ := fs.Open(Root, "f", Flags{Create: true, Write: true})
			fs.Seek(fd, 2, Start)
			fs.Write(fd, []byte("x"))
			fs.WriteAt(fd, []byte("y"), 4)
		}, "\x00\x00x\x00y"},
		{"shortened and extended", func(fs *Tree) {
			fd, _ := fs.Open(Root, "f", Flags{Create: true, Write: true})
			fs.Write(fd, []byte("abc"))
			fs.Truncate(fd, 1)
			fs.Truncate(fd, 2)
		}, "a\x00"},
	} {
		fs := newTree()
		test.writes(fs)
		if got, errno := fs.content("f"); got != test.want || errno != OK {
			t.Errorf("%s: %q, %d", test.name, got, errno)
		}
	}
}

func TestPathsAreResolved(t *testing.T) {
	fs := newTree()
	fs.Put("a/b/c", Regular, []byte("c"))
	for path, want := range map[string]Errno{
		"a/b/c": OK, "/a//b/./c": OK, "a/../a/b/c": OK, "../a/b/c": OK,
		"a/x": ENOENT, "x/y": ENOENT, "a/b/c/d": ENOTDIR, "a/b": EISDIR, ".": EISDIR,
	} {
		if _, errno := fs.content(path); errno != want {
			t.Errorf("%s: %d", path, errno)
		}
	}
	dir, _ := fs.Open(Root, "a/b", Flags{Directory: true})
	if info, errno := fs.Stat(dir, "c", true); errno != OK || info.Size != 1 {
		t.Error(info, errno)
	}
	if info, errno := fs.Stat(dir, "../..", true); errno != OK || info.Kind != Directory {
		t.Error(info, errno)
	}
}

func TestWrongUsesHaveTheErrorsOfPosix(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*Tree) Errno
		want Errno
	}{
		{"create without its directory", func(fs *Tree) Errno { return fs.write("x/f", "", Flags{Create: true}) }, ENOENT},
		{"create again, exclusively", func(fs *Tree) Errno { return fs.write("d/f", "", Flags{Create: true, Exclusive: true}) }, EEXIST},
		{"write to a directory", func(fs *Tree) Errno { return fs.write("d", "", Flags{}) }, EISDIR},
		{"write to a file open for reading", func(fs *Tree) Errno {
			fd, _ := fs.Open(Root, "d/f", Flags{})
			_, errno := fs.Write(fd, []byte("x"))
			return errno
		}, EBADF},
		{"make a directory again", func(fs *Tree) Errno { return fs.Mkdir(Root, "d") }, EEXIST},
		{"make the root", func(fs *Tree) Errno { return fs.Mkdir(Root, "/") }, EEXIST},
		{"remove a full directory", func(fs *Tree) Errno { return fs.Rmdir(Root, "d") }, ENOTEMPTY},
		{"unlink a directory", func(fs *Tree) Errno { return fs.Unlink(Root, "d") }, EISDIR},
		{"rmdir a file", func(fs *Tree) Errno { return fs.Rmdir(Root, "d/f") }, ENOTDIR},
		{"remove nothing", func(fs *Tree) Errno { return fs.Unlink(Root, "x") }, ENOENT},
		{"rename nothing", func(fs *Tree) Errno { return fs.Rename(Root, "x", Root, "y") }, ENOENT},
		{"rename a directory into itself", func(fs *Tree) Errno { return fs.Rename(Root, "d", Root, "d/e") }, EINVAL},
		{"rename a file over a directory", func(fs *Tree) Errno { return fs.Rename(Root, "d/f", Root, "d") }, EISDIR},
		{"close twice", func(fs *Tree) Errno { fd, _ := fs.Open(Root, "d", Flags{}); fs.Close(fd); return fs.Close(fd) }, EBADF},
		{"seek before the beginning", func(fs *Tree) Errno {
			fd, _ := fs.Open(Root, "d/f", Flags{})
			_, errno := fs.Seek(fd, -1, Start)
			return errno
		}, EINVAL},
		{"list a file", func(fs *Tree) Errno {
			fd, _ := fs.Open(Root, "d/f", Flags{})
			_, errno := fs.ReadDir(fd, 0)
			return errno
		}, ENOTDIR},
	} {
		fs := newTree()
		fs.Put("d/f", Regular, nil)
		if errno := test.run(fs); errno != test.want {
			t.Errorf("%s: %d instead of %d", test.name, errno, test.want)
		}
	}
}

func TestADirectoryIsListedInOrderWhileItIsEmptied(t *testing.T) {
	fs := newTree()
	for _, name := range []string{"c", "a", "b"} {
		fs.Put("d/"+name, Regular, nil)
	}
	if got := fs.names("d"); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Fatal(got)
	}
	fd, _ := fs.Open(Root, "d", Flags{})
	fs.ReadDir(fd, 0)
	fs.Unlink(Root, "d/a")
	if rest, errno := fs.ReadDir(fd, 1); len(rest) != 2 || errno != OK {
		t.Error(rest, errno)
	}
	if rest, errno := fs.ReadDir(fd, 3); len(rest) != 0 || errno != OK {
		t.Error(rest, errno)
	}
	if _, errno := fs.ReadDir(fd, 4); errno != EINVAL {
		t.Error(errno)
	}
}

func TestARemovedFileIsKeptByItsDescriptors(t *testing.T) {
	fs := newTree()
	fs.Put("f", Regular, []byte("kept"))
	fd, _ := fs.Open(Root, "f", Flags{})
	fs.Unlink(Root, "f")
	p := make([]byte, 2)
	if n, errno := fs.ReadAt(fd, p, 2); string(p[:n]) != "pt" || errno != OK {
		t.Error(n, errno)
	}
	fs.Close(fd)
	if next, _ := fs.Open(Root, "/", Flags{}); next != fd {
		t.Error("the descriptor is not used again:", next)
	}
}

func TestADeviceDiscardsWhatIsWritten(t *testing.T) {
	fs := newTree()
	fs.Put("dev/null", Device, nil)
	if errno := fs.write("dev/null", "gone", Flags{Create: true, Truncate: true}); errno != OK {
		t.Error(errno)
	}
	if got, errno := fs.content("dev/null"); got != "" || errno != OK {
		t.Error(got, errno)
	}
}

func TestSymbolicLinksAreFollowed(t *testing.T) {
	fs := newTree()
	fs.Put("/data/v1/key", Regular, []byte("one"))
	fs.Put("/data/v2/key", Regular, []byte("two"))
	for link, target := range map[string]string{
		"data/current": "v1", "data/key": "current/key", "absolute": "/data/v2", "up": "data/../data/v2/key",
		"loop": "loop", "nowhere": "absent",
	} {
		if errno := fs.Symlink(target, Root, link); errno != OK {
			t.Fatalf("%s: errno %d", link, errno)
		}
	}
	open := func(path string, flags Flags) (string, Errno) {
		fd, errno := fs.Open(Root, path, flags)
		if errno != OK {
			return "", errno
		}
		defer fs.Close(fd)
		p := make([]byte, 100)
		n, errno := fs.Read(fd, p)
		return string(p[:n]), errno
	}
	for _, test := range []struct {
		path    string
		flags   Flags
		content string
		errno   Errno
	}{
		{"data/key", Flags{Follow: true}, "one", OK},
		{"data/current/key", Flags{}, "one", OK},
		{"absolute/key", Flags{}, "two", OK},
		{"up", Flags{Follow: true}, "two", OK},
		{"up", Flags{}, "", ELOOP},
		{"loop", Flags{Follow: true}, "", ELOOP},
		{"nowhere", Flags{Follow: true}, "", ENOENT},
		{"nowhere", Flags{Follow: true, Create: true, Exclusive: true}, "", EEXIST},
	} {
		if content, errno := open(test.path, test.flags); content != test.content || errno != test.errno {
			t.Errorf("%s %+v: %q, errno %d", test.path, test.flags, content, errno)
		}
	}
	if errno := fs.write("nowhere", "new", Flags{Follow: true, Create: true}); errno != OK {
		t.Errorf("a file at the end of a link: errno %d", errno)
	}
	if content, _ := fs.content("absent"); content != "new" {
		t.Errorf("the link's target has %q", content)
	}
	if target, errno := fs.Readlink(Root, "data/current"); target != "v1" || errno != OK {
		t.Errorf("readlink: %q, errno %d", target, errno)
	}
	if _, errno := fs.Readlink(Root, "absent"); errno != EINVAL {
		t.Errorf("readlink of a file: errno %d", errno)
	}
	link, _ := fs.Stat(Root, "data/current", false)
	dir, _ := fs.Stat(Root, "data/current", true)
	if link.Kind != SymbolicLink || dir.Kind != Directory {
		t.Errorf("the kinds are %d and %d", link.Kind, dir.Kind)
	}
	// As a mounted ConfigMap changes: a new link replaces the old one.
	fs.Symlink("v2", Root, "data/next")
	fs.Rename(Root, "data/next", Root, "data/current")
	if content, _ := open("data/key", Flags{Follow: true}); content != "two" {
		t.Errorf("after the rename: %q", content)
	}
	if errno := fs.Unlink(Root, "data/current"); errno != OK {
		t.Errorf("unlink: errno %d", errno)
	}
	if content, errno := open("data/v2/key", Flags{}); content != "two" || errno != OK {
		t.Errorf("the target of a removed link: %q, errno %d", content, errno)
	}
}
