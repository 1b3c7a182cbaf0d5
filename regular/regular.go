// Package regular reads files that somebody names, such as a configuration: regular
// ones, up to a bound. A device, a pipe and a file that is far too large are errors
// that say so, where reading them would block for ever or take all memory. Symbolic
// links are followed.
package regular

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Max bounds what Read and ReadFS read, in bytes.
const Max = 64 << 20

// Errors of this package; they come within an *fs.PathError, which names the file.
var (
	// ErrKind says that it is a folder, a device, a pipe or a socket.
	ErrKind = errors.New("not a regular file")
	// ErrLarge says that it is larger than the bound.
	ErrLarge = errors.New("the file is too large")
)

// Read returns what stands in a file.
func Read(name string) ([]byte, error) { return ReadUpTo(name, Max) }

// ReadUpTo is Read with another bound, in bytes.
func ReadUpTo(name string, most int64) ([]byte, error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	return all(f, name, most)
}

// ReadFS is Read in a file system.
func ReadFS(fsys fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(fsys, name) // a pipe in it must not be opened: that would wait for its writer
	if err != nil {
		return nil, err
	}
	if err := check(info, name); err != nil {
		return nil, err
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	return all(f, name, Max)
}

// Open opens a file to read it piece by piece; the caller closes it.
func Open(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // without, a pipe waits for its writer
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = check(info, name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func check(info fs.FileInfo, name string) error {
	if info.Mode().IsRegular() {
		return nil
	}
	what := "a special file"
	switch m := info.Mode(); {
	case m.IsDir():
		what = "a folder"
	case m&fs.ModeNamedPipe != 0:
		what = "a pipe"
	case m&fs.ModeSocket != 0:
		what = "a socket"
	case m&fs.ModeDevice != 0:
		what = "a device"
	}
	return wrong(name, "%s, %w; name the file that holds the text", what, ErrKind)
}

// all reads no more than it must to see that a file is too large, whatever its size
// is said to be.
func all(r io.Reader, name string, most int64) ([]byte, error) {
	var text bytes.Buffer
	n, err := text.ReadFrom(io.LimitReader(r, most+1))
	if err != nil {
		return nil, err
	}
	if n > most {
		return nil, wrong(name, "%w; at most %d MB are read", ErrLarge, most>>20)
	}
	return text.Bytes(), nil
}

func wrong(name, format string, args ...any) error {
	return &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf(format, args...)}
}
