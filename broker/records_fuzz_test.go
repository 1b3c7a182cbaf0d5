package broker_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// record is a record of a broker's store: where it stands, and what it says.
type record struct {
	put   func(w *store.Batch, value []byte)
	value []byte
}

// records are all of a broker's: its tables, then its logs.
func records(t testing.TB, st store.Store) (rs []record) {
	for table := store.Table(0x20); table <= 0x30; table++ {
		err := st.Scan(table, nil, nil, func(key, value []byte) store.Next {
			rs = append(rs, tableRecord(table, string(key), string(value)))
			return store.Next{}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []byte{'q', 'g', 'i'} {
		err := st.Logs(kind, func(id uint64, at store.Pos, value []byte) bool {
			rs = append(rs, record{func(w *store.Batch, v []byte) { w.Append(store.Log{Kind: kind, ID: id}, at, v) }, append([]byte(nil), value...)})
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return rs
}

func tableRecord(t store.Table, key, value string) record {
	return record{func(w *store.Batch, v []byte) { w.Put(t, []byte(key), v) }, []byte(value)}
}

// be8 is a number as it stands in keys and records.
func be8(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }

// rare are records that only stand in the store while something goes on: a fan-out to
// two sessions, one to two inboxes, how far they are, and a replay.
func rare(t testing.TB, st store.Store) []record {
	var body, sess string
	first := func(table store.Table, into *string) {
		if err := st.Scan(table, nil, nil, func(key, _ []byte) store.Next { *into = string(key); return store.Stop }); err != nil {
			t.Fatal(err)
		}
	}
	first(0x27, &body)
	first(0x20, &sess)
	n, inboxes := be8(1<<40), be8(1<<40+1)
	return []record{
		tableRecord(0x2d, n, "F\x01"+body+"\x00\x00\x01\x01\x01\x07\x02\x02\x00"),
		tableRecord(0x2d, inboxes, "I\x01"+be8(0)+be8(1)+"\x00\x00\x01t\x02{}\x03ann\x03bob"),
		tableRecord(0x2e, n, "A\x01"+be8(1)),
		tableRecord(0x2e, inboxes, "A\x01"+be8(1)),
		tableRecord(0x2f, sess+"q/#", "Y\x01\x00"+be8(1)+"B\x01\x01\x00\x00\x00\x07q/1"),
	}
}

// FuzzStoredRecords: whatever one record of the store says, a broker starts and serves
// those whose records it holds, or says what it can't read.
func FuzzStoredRecords(f *testing.F) {
	cfg := ageless("")
	mem := store.NewMemory()
	b, err := broker.NewOver(cfg, mem)
	if err != nil {
		f.Fatal(err)
	}
	fill(f, b)
	going := rare(f, mem)
	var w store.Batch
	for _, r := range going {
		r.put(&w, r.value)
	}
	if err := mem.Commit(&w); err != nil {
		f.Fatal(err)
	}
	all := records(f, mem)
	for i, r := range all {
		f.Add(uint16(i), r.value)
		f.Add(uint16(i), r.value[:len(r.value)/2])
		f.Add(uint16(i), append(r.value[:min(2, len(r.value)):2], bytes.Repeat([]byte{0xff}, max(len(r.value)-2, 0))...)) // each number at its largest
	}
	f.Fuzz(func(t *testing.T, which uint16, value []byte) {
		var w store.Batch
		all[int(which)%len(all)].put(&w, value)
		st := mem.Crash()
		if err := st.Commit(&w); err != nil {
			return // it is too large for a batch
		}
		b, err := broker.NewOver(cfg, st)
		if err != nil {
			return // it says so
		}
		for _, id := range []string{"sub", "more0", "member", "pub", "phone"} {
			visit(b, id)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// visit takes up a session, reads what comes until a PINGREQ is answered, and leaves
// without having acknowledged anything.
func visit(b *broker.Broker, id string) {
	near, far := net.Pipe()
	ended := make(chan struct{})
	go func() { defer close(ended); b.ServeConn(context.Background(), far) }()
	p := &mqtt.Connect{Version: mqtt.V5, ClientID: id, ReceiveMaximum: 100, SessionExpiry: 3600}
	if id == "phone" {
		p.Username, p.HasUsername = "ann", true
	}
	near.SetDeadline(time.Now().Add(5 * time.Second)) //nolint:errcheck // a pipe has deadlines
	c := &client{nc: near, v: mqtt.V5}
	near.Write(mqtt.AppendConnect(nil, p)) //nolint:errcheck // it may be hung up on
	for pinged := false; ; {
		first, _, err := c.next(5 * time.Second)
		if err != nil || mqtt.Type(first>>4) == mqtt.PINGRESP {
			break
		}
		if !pinged {
			pinged = true
			near.Write(mqtt.AppendPingreq(nil)) //nolint:errcheck // it may be hung up on
		}
	}
	near.Close() //nolint:errcheck // a pipe
	<-ended
}
