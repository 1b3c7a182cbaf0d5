package store

import (
	"errors"
	"fmt"
	"log/slog"
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

// startNeeds is the free space without which a store does not start: what Badger writes
// through mapped files, a full disk would kill the process of.
func startNeeds(mem int64) int64 { return 3 * mem }

// makeRoom gives the ballast up if the volume is so full that the store might not start.
func makeRoom(dir string, mem int64, log *slog.Logger) error {
	free, _, err := Space(dir)
	if err != nil {
		return err
	}
	if free < 6*mem && dropBallast(dir) {
		log.Warn("the disk is nearly full: the ballast file was given up so that the store can start", "free", free)
		if free, _, err = Space(dir); err != nil {
			return err
		}
	}
	if free < startNeeds(mem) {
		return fmt.Errorf("%w: %s has %d bytes free; the store needs %d to start: make room on its volume", ErrNoSpace, dir, free, startNeeds(mem))
	}
	return nil
}

// lock takes the lock on dir that Badger takes: nothing may be changed in a folder that
// another process has open.
func lock(dir string) (unlock func() error, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, accessError(err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, errors.Join(ErrInUse, f.Close())
	case err != nil:
		return nil, errors.Join(fmt.Errorf("store: lock %s: %w", dir, err), f.Close())
	}
	return f.Close, nil
}

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
