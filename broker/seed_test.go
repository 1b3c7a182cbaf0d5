package broker

import (
	"fmt"

	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// Seed writes what a stopped broker would have left of n offline sessions, each
// with a client id of 20 bytes and a filter of its own of 30, which begins with
// tree, and queued messages of 200 bytes for each.
func Seed(st store.Store, n, queued int, tree string) error {
	c := &core{store: st, cur: &batch{n: 1}}
	for i := range n {
		c.nextID++
		s := &session{id: c.nextID, key: sessionKey{SeededClient(i), SeededClient(i)}, expiry: mqtt.NeverExpires, lasting: true}
		c.cur.w.Put(tableSession, be8(s.id), s.record())
		c.cur.w.Put(tableSub, append(be8(s.id), SeededFilter(tree, i)...), subOptions{qos: 1}.append(nil))
		for k := range queued {
			it := item{msg: &mqtt.Message{Topic: SeededFilter(tree, i), QoS: 1, Payload: make([]byte, 200)}, qos: 1}
			c.cur.w.Append(s.log(), store.Pos(k+1), appendItem([]byte{'Q', 1}, &it, 0))
		}
		if c.full() || i == n-1 {
			c.cur.n++
			c.cur.w.Put(tableMeta, []byte("core"), c.metaRecord())
			if err := st.Commit(&c.cur.w); err != nil {
				return err
			}
			c.cur.w.Reset()
		}
	}
	return nil
}

// SeededClient is the client id of the seeded session i, SeededFilter its filter.
func SeededClient(i int) string { return fmt.Sprintf("device-%013d", i) }

// SeededFilter is the filter of the seeded session i below a topic.
func SeededFilter(tree string, i int) string {
	return fmt.Sprintf("%s/%0*d/command", tree, 30-len(tree)-len("//command"), i)
}

// Table is the table of sessions, by client id.
type Table struct{ t sessionTable }

func (t *Table) Put(client string)      { t.t.put(&session{key: sessionKey{client: client}}) }
func (t *Table) Remove(client string)   { t.t.remove(sessionKey{client: client}) }
func (t *Table) Has(client string) bool { return t.t.get(sessionKey{client: client}) != nil }
func (t *Table) Len() int               { return t.t.len() }
