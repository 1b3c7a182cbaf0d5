package broker

import (
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// eraseStep is how many entries one step of an erasure removes, so that no
// command holds the core for long.
const eraseStep = 256

// ofSession are the tables with records of a session beside its own and its
// subscriptions.
var ofSession = []store.Table{tableIn2, tableOut2, tableReplay, tableDone}

// erase removes what is stored of an ended session beside its record, once what the
// open batch writes of it is there, too.
func (c *core) erase(s *session) { c.then(func() { c.eraseRecords(s.id) }) }

func (c *core) eraseRecords(session uint64) {
	for _, t := range ofSession {
		c.eraseTable(t, session)
	}
	c.eraseLog(store.Log{Kind: logQueue, ID: session})
}

// eraseOrphan removes what is left of a session whose own record is lost, once the core
// runs.
func (c *core) eraseOrphan(session uint64) {
	c.mail.post(command{kind: cmdCall, call: func() {
		c.cur.w.Delete(tableWindow, be8(session))
		c.eraseTable(tableSub, session)
		c.eraseRecords(session)
	}})
}

// eraseTable removes the records of one session from a table, in steps.
func (c *core) eraseTable(t store.Table, session uint64) {
	c.b.work(func() {
		var keys [][]byte
		err := c.store.Scan(t, be8(session), nil, func(key, _ []byte) store.Next {
			keys = append(keys, append([]byte(nil), key...))
			if len(keys) == eraseStep {
				return store.Stop
			}
			return store.Next{}
		})
		if err != nil || len(keys) == 0 {
			return
		}
		c.mail.post(command{kind: cmdCall, call: func() {
			for _, k := range keys {
				c.cur.w.Delete(t, k)
			}
			c.then(func() { c.eraseTable(t, session) })
		}})
	})
}

// eraseLog removes a log whose owner has ended, in steps, and lets go of the
// bodies that it refers to. A restart finds a log without an owner and goes on.
func (c *core) eraseLog(l store.Log) {
	c.b.work(func() {
		var at []store.Pos
		var bodies []uint64
		err := c.store.Read(l, 0, eraseStep, 1<<20, func(p store.Pos, v []byte) bool {
			at = append(at, p)
			_, _ = decodeItems(v, func(n uint64) *mqtt.Message { bodies = append(bodies, n); return nil })
			return true
		})
		if err != nil || len(at) == 0 {
			return
		}
		c.mail.post(command{kind: cmdCall, call: func() {
			for _, p := range at {
				c.cur.w.Remove(l, p)
			}
			for _, n := range bodies {
				c.unref(n)
			}
			c.then(func() { c.eraseLog(l) })
		}})
	})
}

// then does something once what the open batch holds is committed.
func (c *core) then(do func()) {
	c.cur.effects = append(c.cur.effects, effect{do: do})
}

// unref lets go of one reference to a shared body; the last one deletes it.
func (c *core) unref(body uint64) {
	if body == 0 {
		return
	}
	if c.bodies[body]--; c.bodies[body] <= 0 {
		delete(c.bodies, body)
		c.cur.w.Delete(tableBody, be8(body))
	}
}
