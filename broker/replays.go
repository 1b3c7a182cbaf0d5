package broker

// replays are the unfinished replays of one session, in turn: one a filter, the last
// SUBSCRIBE's. A client may have a thousand and ask for all of them again and again, so
// that nothing here looks at each. The zero value is empty.
type replays struct {
	turns []*replay // with those that another took the place of
	of    map[string]*replay
}

func (rs *replays) len() int { return len(rs.of) }

// get returns the replay of a filter, or nil.
func (rs *replays) get(filter string) *replay { return rs.of[filter] }

// has reports whether a replay goes on.
func (rs *replays) has(r *replay) bool { return rs.of[r.cursor.Filter] == r }

// add puts a replay at the end; it takes the place of that of its filter.
func (rs *replays) add(r *replay) {
	if rs.of == nil {
		rs.of = make(map[string]*replay, 1)
	}
	rs.of[r.cursor.Filter] = r
	if rs.turns = append(rs.turns, r); len(rs.turns) > 2*len(rs.of)+16 {
		rs.turns = rs.all()
	}
}

// remove takes the replay of a filter out.
func (rs *replays) remove(filter string) {
	if delete(rs.of, filter); len(rs.of) == 0 {
		*rs = replays{}
	}
}

// first is the one whose turn it is, or nil.
func (rs *replays) first() *replay {
	for len(rs.turns) > 0 {
		if r := rs.turns[0]; rs.has(r) {
			return r
		}
		rs.turns[0] = nil
		rs.turns = rs.turns[1:]
	}
	return nil
}

// rotate puts the first one at the end.
func (rs *replays) rotate() {
	if r := rs.first(); r != nil {
		rs.turns = append(rs.turns[1:], r)
	}
}

// all are those that go on, in turn.
func (rs *replays) all() (all []*replay) {
	for _, r := range rs.turns {
		if rs.has(r) {
			all = append(all, r)
		}
	}
	return all
}
