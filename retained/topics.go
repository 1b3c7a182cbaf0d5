package retained

import "hash/maphash"

// Topics counts what is retained without holding it, by a hash of each topic. The
// zero value is empty. It is for one goroutine.
type Topics struct {
	sizes map[uint64]uint32
	bytes int64
}

var seed = maphash.MakeSeed()

// Hash stands for a topic within this process, where the topics themselves would take
// too much: that two of millions have the same is less likely than a fault of the
// machine.
func Hash(topic string) uint64 { return maphash.String(seed, topic) }

// Set notes that topic holds a record of size bytes.
func (t *Topics) Set(topic string, size int) {
	t.Delete(topic)
	if t.sizes == nil {
		t.sizes = make(map[uint64]uint32)
	}
	t.sizes[Hash(topic)] = uint32(size)
	t.bytes += int64(size)
}

// Delete notes that topic holds nothing.
func (t *Topics) Delete(topic string) {
	h := Hash(topic)
	t.bytes -= int64(t.sizes[h])
	delete(t.sizes, h)
}

// Len is the number of topics that hold something.
func (t *Topics) Len() int { return len(t.sizes) }

// Bytes is the size of all records.
func (t *Topics) Bytes() int64 { return t.bytes }

// Size is the size of what topic holds, 0 for nothing.
func (t *Topics) Size(topic string) int { return int(t.sizes[Hash(topic)]) }

// Has reports whether topic holds something.
func (t *Topics) Has(topic string) bool {
	_, ok := t.sizes[Hash(topic)]
	return ok
}
