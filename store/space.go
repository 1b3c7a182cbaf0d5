package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Space returns how many bytes are free for us on the volume of dir, and how
// many it has.
func Space(dir string) (free, total int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("store: %s: %w", dir, err)
	}
	block := int64(s.Bsize) //nolint:unconvert // its type differs between platforms
	return int64(s.Bavail) * block, int64(s.Blocks) * block, nil
}

// Reserve is the free space in bytes below which a store with this memory budget
// should take no more: the smaller of 512 MB and a tenth of the volume, but at
// least six memtables, since Badger writes through mapped files and a full disk
// would kill the process.
func Reserve(memory, total int64) int64 {
	return max(min(512<<20, total/10), 6*memTable(memory))
}

// ballastName is a file that only takes space: it is given up to let a store on
// a full disk start.
const (
	ballastName = "ballast"
	ballastSize = 64 << 20
)

// dropBallast removes the ballast and reports whether there was one.
func dropBallast(dir string) bool { return os.Remove(filepath.Join(dir, ballastName)) == nil }

// Ballast makes the ballast file of the store in dir if it is missing and there
// is room for it beside the reserve. It may be called while the store is open.
func Ballast(dir string, reserve int64) error {
	name := filepath.Join(dir, ballastName)
	if fi, err := os.Stat(name); err == nil && fi.Size() == ballastSize {
		return nil
	}
	if free, _, err := Space(dir); err != nil || free < reserve+2*ballastSize {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("store: ballast: %w", err)
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, ballastSize)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = nil // then it takes no space, and is none
	}
	return errors.Join(err, f.Close())
}
