package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// Options say how a store on disk is opened. The zero value is usable.
type Options struct {
	// Memory is the process's budget in bytes, of which the store takes a
	// share; default 512 MB.
	Memory int64
	// Log gets Badger's warnings and errors; nil means slog.Default().
	Log *slog.Logger
}

// Recovery says what Open found.
type Recovery struct {
	// Fresh is true if there was no store.
	Fresh bool
	// Clean is true if the last process closed it.
	Clean bool
	// Bytes is its size on disk.
	Bytes int64
}

// LogValue shows the recovery in a log line.
func (r Recovery) LogValue() slog.Value {
	return slog.GroupValue(slog.Bool("fresh", r.Fresh), slog.Bool("clean", r.Clean), slog.Int64("bytes", r.Bytes))
}

// format is the version of the layout; a store says with which it was written.
const format = 1

var (
	keyFormat = []byte{0x01, 'f'}
	keyClean  = []byte{0x01, 'c'}
)

// disk is the Store over Badger: everything in the LSM tree, one synced
// transaction a commit.
type disk struct {
	db      *badger.DB
	dir     string
	mem     int64
	mu      sync.Mutex
	failed  error
	entries int
	bytes   int
}

var _ Store = (*disk)(nil)

// Open opens the store in dir, which is made if it is not there. A second
// process is refused. Whatever was committed is there, also after a kill or power
// loss; if it can't be read, the folder is left as it is and an error says why.
func Open(dir string, o Options) (Store, Recovery, error) {
	if o.Memory == 0 {
		o.Memory = 512 << 20
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	mem := memTable(o.Memory)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, Recovery{}, accessError(err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, Recovery{}, err
	}
	if err := makeRoom(dir, mem, o.Log); err != nil {
		return nil, Recovery{}, errors.Join(err, unlock())
	}
	if err := checkFiles(dir); err != nil {
		return nil, Recovery{}, errors.Join(err, unlock())
	}
	if err := errors.Join(unlock(), setState(dir, "")); err != nil {
		return nil, Recovery{}, accessError(err)
	}
	db, err := openBadger(dir, mem, o)
	if err != nil {
		return nil, Recovery{}, openError(dir, err)
	}
	// Badger bounds a transaction by 15 % of the memtable, and by a count that
	// follows from it; stay below both.
	d := &disk{db: db, dir: dir, mem: mem, bytes: int(mem * 14 / 100), entries: int(mem / 1024)}
	rec, err := d.begin()
	if err == nil {
		err = setState(dir, stateOpen)
	}
	if err != nil {
		return nil, rec, errors.Join(err, db.Close())
	}
	return d, rec, nil
}

// openBadger opens Badger with memtables of mem bytes. Those of a process that had
// larger ones and was killed don't fit: they are flushed with their own size first.
func openBadger(dir string, mem int64, o Options) (*badger.DB, error) {
	open := func(mem int64) (*badger.DB, error) {
		return badger.Open(badger.DefaultOptions(dir).WithSyncWrites(true).
			WithMemTableSize(mem).WithNumMemtables(2).WithValueThreshold(min(1<<20, mem/10)).
			WithBaseTableSize(min(2<<20, mem/4)).WithNumLevelZeroTables(4).WithNumLevelZeroTablesStall(10).WithNumCompactors(2).
			WithCompression(options.None).WithBlockCacheSize(0).WithIndexCacheSize(min(16<<20, o.Memory/16)).
			WithValueLogFileSize(64 << 20).WithDetectConflicts(false).WithMetricsEnabled(false).
			WithNumVersionsToKeep(1).WithLogger(badgerLog{o.Log}))
	}
	if was := leftMemTable(dir); was > mem {
		o.Log.Warn("the last process had more memory, and was killed: what it left is written first", "memtable", was)
		db, err := open(was)
		if err != nil {
			return nil, err
		}
		if err := db.Close(); err != nil {
			return nil, err
		}
	}
	return open(mem)
}

// leftMemTable is the memtable size of the process that left memtables in dir: their
// files were made twice as large. It is 0 if there are none.
func leftMemTable(dir string) (size int64) {
	files, _ := filepath.Glob(filepath.Join(dir, "*.mem")) // the pattern is good
	for _, f := range files {
		if fi, err := os.Stat(f); err == nil {
			size = max(size, fi.Size()/2)
		}
	}
	return size
}

// memTable is Badger's main lever on CPU once there are backlogs, and takes
// three times its size of memory.
func memTable(memory int64) int64 {
	switch {
	case memory < 256<<20:
		return 4 << 20
	case memory <= 256<<20:
		return 8 << 20
	case memory < 2<<30:
		return 16 << 20
	}
	return 64 << 20
}

// begin checks the format and notes that the store is open.
func (d *disk) begin() (Recovery, error) {
	var r Recovery
	lsm, vlog := d.db.Size()
	r.Bytes = lsm + vlog
	v, err := d.get(keyFormat)
	switch {
	case errors.Is(err, ErrNotFound):
		r.Fresh = true
	case err != nil:
		return r, err
	case len(v) != 1 || v[0] > format:
		return r, fmt.Errorf("%w (format %v, this version knows %d)", ErrNewerFormat, v, format)
	}
	_, err = d.get(keyClean)
	r.Clean = err == nil || r.Fresh
	if err := d.finishLarge(); err != nil {
		return r, err
	}
	return r, d.write([]op{{key: keyFormat, value: []byte{format}}, {key: keyClean, del: true}})
}

func (d *disk) Limit() (entries, bytes int) { return d.entries, d.bytes }

func (d *disk) Commit(b *Batch) error {
	if !b.fits(d.bytes) {
		return ErrTooBig
	}
	write := d.write
	if b.Len() > d.entries || b.Size() > d.bytes {
		write = d.commitLarge
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed != nil {
		return d.failed
	}
	if err := d.room(); err != nil {
		d.failed = fmt.Errorf("%w: %w", ErrFailed, err)
		return err
	}
	if err := write(b.ops); err != nil {
		d.failed = fmt.Errorf("%w: %w", ErrFailed, err)
		return err
	}
	return nil
}

// room refuses a commit when the volume is so full that Badger, which writes through
// mapped files, might be killed by it.
func (d *disk) room() error {
	if free, _, err := Space(d.dir); err != nil || free >= d.mem {
		return nil // if it can't be told, it is tried
	}
	return fmt.Errorf("%w: make room on the volume of %s, and start again", ErrNoSpace, d.dir)
}

func (d *disk) write(ops []op) error {
	txn := d.db.NewTransaction(true)
	defer txn.Discard()
	for _, o := range ops {
		var err error
		if o.del {
			err = txn.Delete(o.key)
		} else {
			err = txn.Set(o.key, o.value)
		}
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	return txn.Commit()
}

func (d *disk) Get(t Table, key []byte) ([]byte, error) { return d.get(tableKey(t, key)) }

func (d *disk) get(key []byte) (v []byte, err error) {
	err = d.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if err != nil {
			return err
		}
		v, err = item.ValueCopy(nil)
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, ErrNotFound
	}
	return v, err
}

func (d *disk) walk(prefix, from []byte, fn func(key, value []byte) Next) error {
	return d.db.View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Prefix, o.PrefetchValues = prefix, false
		it := txn.NewIterator(o)
		defer it.Close()
		if bytes.Compare(from, prefix) < 0 {
			from = prefix
		}
		for it.Seek(from); it.ValidForPrefix(prefix); {
			var next Next
			item := it.Item()
			key := item.Key()
			if err := item.Value(func(v []byte) error { next = fn(key, v); return nil }); err != nil {
				return err
			}
			switch {
			case next.stop:
				return nil
			case next.seek != nil && bytes.Compare(next.seek, key) > 0:
				it.Seek(next.seek)
			default:
				it.Next()
			}
		}
		return nil
	})
}

func (d *disk) Scan(t Table, prefix, from []byte, fn func(key, value []byte) Next) error {
	return scan(d, t, prefix, from, fn)
}

func (d *disk) Read(l Log, after Pos, maxEntries, maxBytes int, fn func(Pos, []byte) bool) error {
	return read(d, l, after, maxEntries, maxBytes, fn)
}

func (d *disk) Logs(kind byte, fn func(uint64, Pos, []byte) bool) error { return logs(d, kind, fn) }

// Backup streams with one goroutine, which bounds its memory and spares the
// writer.
func (d *disk) Backup(w io.Writer, since uint64) (uint64, error) {
	s := d.db.NewStream()
	s.NumGo, s.SinceTs = 1, since
	return s.Backup(w, since)
}

func (d *disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	if errors.Is(d.failed, ErrNoSpace) {
		return nil // there is no room to end well: the next start recovers it, as after a kill
	}
	if d.failed == nil {
		err = d.write([]op{{key: keyClean, value: []byte{1}}})
	}
	err = errors.Join(err, setState(d.dir, ""), d.db.Close())
	if err == nil {
		err = setState(d.dir, stateClosed)
	}
	return err
}

// accessError adds to an error of the file system what to do about it.
func accessError(err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("store: %w: the data folder and all that is in it must belong to the user that runs this (uid %d)", err, os.Getuid())
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("store: %w: the data folder must be on a volume that can be written to", err)
	}
	return fmt.Errorf("store: %w", err)
}

// openError says what Badger found wrong as it opened its files, and what to do.
func openError(dir string, err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "Cannot acquire directory lock"): // Badger has no value for it
		return ErrInUse
	case errors.Is(err, os.ErrPermission), errors.Is(err, unix.EROFS), errors.Is(err, unix.ENOSPC):
		return accessError(err)
	case strings.Contains(text, "key registry") || strings.Contains(text, "sanity text") || strings.Contains(text, "Encryption key mismatch"):
		return fmt.Errorf("%w: %s: %w; it holds nothing, since nothing is encrypted: remove it", ErrDamaged, filepath.Join(dir, "KEYREGISTRY"), err)
	case strings.Contains(strings.ToLower(text), "manifest"):
		return damaged(filepath.Join(dir, "MANIFEST"), text)
	}
	return damaged(dir, text)
}

// badgerLog passes Badger's warnings and errors on.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(f string, a ...any)   { l.log.Error("badger", "msg", fmt.Sprintf(f, a...)) }
func (l badgerLog) Warningf(f string, a ...any) { l.log.Warn("badger", "msg", fmt.Sprintf(f, a...)) }
func (badgerLog) Infof(string, ...any)          {}
func (badgerLog) Debugf(string, ...any)         {}
