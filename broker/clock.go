package broker

import "time"

// clock is the core's time in Unix milliseconds. It never runs backwards: it
// advances by the monotonic clock, steps when the wall clock is ahead, and runs
// at half speed while the wall clock is behind. Owned by the core.
type clock struct {
	now  int64
	last time.Time // the reading at which now was true
}

// start sets the clock to the later of the saved time and the wall clock.
func (c *clock) start(saved int64, t time.Time) {
	c.now, c.last = max(saved, t.UnixMilli()), t
}

// advance moves the clock to the reading t and returns it.
func (c *clock) advance(t time.Time) int64 {
	d := t.Sub(c.last).Milliseconds()
	wall := t.UnixMilli()
	if d <= 0 || (d < 2 && wall < c.now+d) {
		return c.now // half of a millisecond is kept for the next reading
	}
	c.last = c.last.Add(time.Duration(d) * time.Millisecond)
	if half := c.now + d/2; wall < half {
		c.now = half
	} else {
		c.now = wall
	}
	return c.now
}
