package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
)

// Badger dies, in a goroutine of its own, of a table that was cut; of a folder that has
// lost its MANIFEST it makes an empty store, and without the write-ahead file that is
// gone it starts as if nothing had been in it. What a flipped bit has changed in a
// table it takes for data. So its files are looked at before it sees them.

// ErrDamaged is returned by Open for a data folder of which a file is missing or not what
// was written. The folder is left as it is.
var ErrDamaged = errors.New("store: the data folder is damaged")

// checkFiles says what is wrong with the files of a store.
func checkFiles(dir string) error {
	manifest, was, memtables := filepath.Join(dir, "MANIFEST"), state(dir), match(dir, "*.mem")
	if was == stateOpen && len(memtables) == 0 {
		return damaged(filepath.Join(dir, "*.mem"), "none is there, though the last process did not end well: what was acknowledged last was in it")
	}
	if err := dropEmpty(was, memtables, match(dir, "*.vlog")); err != nil {
		return err
	}
	tables := match(dir, "*.sst")
	if _, err := os.Stat(manifest); errors.Is(err, os.ErrNotExist) {
		if len(tables)+len(memtables) > 0 {
			return damaged(manifest, "it is missing, and other files are there")
		}
		return nil
	}
	f, err := os.Open(manifest)
	if err != nil {
		return accessError(err)
	}
	named, err := namedTables(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return damaged(manifest, err.Error())
	}
	for _, name := range tables {
		if !slices.Contains(named, name) && was == stateClosed { // Badger would remove it
			return damaged(manifest, "it was cut: it does not name "+filepath.Base(name))
		}
	}
	var b []byte
	for _, name := range named {
		b, err = readInto(b, name)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return damaged(name, "this table is missing")
		case err != nil:
			return accessError(err)
		}
		if why := checkTable(b); why != "" {
			return damaged(name, why)
		}
	}
	return nil
}

// dropEmpty removes write-ahead files and value logs that are empty: a kill came between
// their making and their first byte, or while Badger was removing them, which it does by
// cutting them first. A store that was closed leaves none, and one that is open has one
// that is not.
func dropEmpty(was string, memtables, values []string) error {
	for _, names := range [][]string{memtables, values} {
		for _, name := range names {
			fi, err := os.Stat(name)
			if err != nil {
				return accessError(err)
			}
			if fi.Size() > 0 {
				continue
			}
			if was == stateClosed || was == stateOpen && len(names) == 1 {
				return damaged(name, "it is empty")
			}
			if err := os.Remove(name); err != nil {
				return accessError(err)
			}
		}
	}
	return nil
}

// readInto reads a whole file into b, or into more if that is too small.
func readInto(b []byte, name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return b, err
	}
	defer f.Close() //nolint:errcheck // it is only read
	fi, err := f.Stat()
	if err != nil {
		return b, err
	}
	b = slices.Grow(b[:0], int(fi.Size()))[:fi.Size()]
	_, err = io.ReadFull(f, b)
	return b, err
}

func match(dir, pattern string) []string {
	names, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is good
	return names
}

func damaged(name, why string) error {
	return fmt.Errorf("%w: %s: %s; restore a backup of the folder, or move it away to begin with nothing", ErrDamaged, name, why)
}

// checkTable says what is wrong with a table: blocks, their index, and at the end of each
// its checksum; "" for nothing.
func checkTable(b []byte) (why string) {
	defer func() {
		if recover() != nil { // an offset that leads out of it
			why = "its index is not readable"
		}
	}()
	b, ok, sum := cutSum(b)
	if !ok {
		return "it was cut, or its end is not readable"
	}
	n := len(b) - 4
	if n < 0 {
		return "it was cut"
	}
	size := int(binary.BigEndian.Uint32(b[n:]))
	if size > n {
		return "it was cut"
	}
	blocks, index := b[:n-size], b[n-size:n]
	if !sum.of(index) {
		return "its index has another checksum"
	}
	t := fb.GetRootAsTableIndex(index, 0)
	var o fb.BlockOffset
	for i := range t.OffsetsLength() {
		if !t.Offsets(&o, i) {
			return "its index is not readable"
		}
		block, ok, sum := cutSum(blocks[o.Offset() : o.Offset()+o.Len()])
		if !ok || !sum.of(block) {
			return fmt.Sprintf("its block %d, at %d, has another checksum", i, o.Offset())
		}
	}
	return ""
}

// checksum is one as Badger writes it: algorithm 0 is CRC-32C.
type checksum struct{ algorithm, sum uint64 }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// of reports whether it is that of b, as far as we know the algorithm.
func (c checksum) of(b []byte) bool {
	return c.algorithm != 0 || c.sum == uint64(crc32.Checksum(b, castagnoli))
}

// cutSum takes a checksum off the end of b: a protocol buffer of two numbers, and its
// length in four bytes.
func cutSum(b []byte) (rest []byte, ok bool, c checksum) {
	n := len(b) - 4
	if n < 0 {
		return nil, false, c
	}
	size := int(binary.BigEndian.Uint32(b[n:]))
	if size > n || size > 32 {
		return nil, false, c
	}
	rest, msg := b[:n-size], b[n-size:n]
	for len(msg) > 0 {
		v, k := binary.Uvarint(msg[1:])
		switch {
		case k <= 0:
			return nil, false, c
		case msg[0] == 1<<3:
			c.algorithm = v
		case msg[0] == 2<<3:
			c.sum = v
		default:
			return nil, false, c
		}
		msg = msg[1+k:]
	}
	return rest, true, c
}

// The states of a data folder, in a file of its own. There is none while the store is
// being opened or closed: a kill then may leave anything.
const (
	stateName = "state"
	// stateOpen says that the store is open: there is a write-ahead file.
	stateOpen = "open"
	// stateClosed says that it was closed: MANIFEST names all tables.
	stateClosed = "closed"
)

func state(dir string) string {
	b, _ := os.ReadFile(filepath.Join(dir, stateName)) // without one nothing is known
	return string(b)
}

// setState notes the state of a folder, on stable storage.
func setState(dir, s string) error {
	name := filepath.Join(dir, stateName)
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if s != "" {
		if err := os.WriteFile(name, []byte(s), 0o600); err != nil {
			return err
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// namedTables are the tables that a MANIFEST names, in order.
func namedTables(manifest *os.File) (names []string, err error) {
	dir := filepath.Dir(manifest.Name())
	m, _, err := badger.ReplayManifestFile(manifest, 0, badger.DefaultOptions(dir))
	for id := range m.Tables {
		names = append(names, filepath.Join(dir, fmt.Sprintf("%06d.sst", id)))
	}
	slices.Sort(names)
	return names, err
}
