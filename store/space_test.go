package store_test

import (
	"testing"

	"github.com/geocast/geocast/store"
)

// The reserve is the smaller of 512 MB and a tenth of the volume, but no less than six
// memtables of the memory budget.
func TestReserve(t *testing.T) {
	const mb = 1 << 20
	for _, row := range []struct {
		name                string
		memory, total, want int64
	}{
		{"a large volume", 512 * mb, 1 << 40, 512 * mb},
		{"a tenth of a small one", 512 * mb, 2000 * mb, 200 * mb},
		{"six memtables of a tiny one", 512 * mb, 100 * mb, 6 * 16 * mb},
		{"and with little memory", 192 * mb, 100 * mb, 6 * 4 * mb},
		{"and with much", 4 << 30, 1000 * mb, 6 * 64 * mb},
	} {
		if got := store.Reserve(row.memory, row.total); got != row.want {
			t.Errorf("%s: %d MB, want %d", row.name, got/mb, row.want/mb)
		}
	}
}
