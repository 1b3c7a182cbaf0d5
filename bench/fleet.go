package bench

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/geocast/geocast/mqtt"
)

// Fleet is clients with sessions that last, each subscribed to its user's inbox,
// which all come back at once after the broker was restarted.
type Fleet struct {
	Name    string
	Clients int
	// Login is the user name and the secret of a client, by its number.
	Login func(i int) (user, secret string)
	// Dial opens a transport to an address; nil is TCP.
	Dial func(address string) (net.Conn, error)
}

// together is how many of a fleet connect at the same time.
const together = 100

// patience is how long a fleet tries to come back.
const patience = 3 * time.Minute

// Run connects the fleet, has restart end the broker and start it again on the same
// address, and measures until every client is back and has had an answer on the
// connection that it holds. The times of the second result count from the restart.
func (f Fleet) Run(t Target, restart func() (Target, error)) (first, back Result, err error) {
	conns := make([]*conn, f.Clients)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.nc.Close() //nolint:errcheck // it ends either way
			}
		}
	}()
	first = Result{Name: f.Name + ": the first time", Messages: f.Clients}
	err = f.each(t, &first, func(i int) (err error) {
		if conns[i], err = f.connect(t.Address, i); err == nil {
			err = conns[i].subscribe(fmt.Sprintf("users/%s/inbox", f.user(i)), 1)
		}
		return err
	})
	if err != nil {
		return first, back, err
	}
	began := time.Now()
	if t, err = restart(); err != nil {
		return first, back, err
	}
	back = Result{Name: f.Name + ": back after a restart", Messages: f.Clients}
	times := make([]time.Duration, f.Clients)
	err = f.each(t, &back, func(i int) (err error) {
		conns[i].nc.Close() //nolint:errcheck // the broker has ended it
		if conns[i], err = f.comeBack(t.Address, i, began); err == nil {
			times[i] = time.Since(began)
		}
		return err
	})
	if err == nil {
		err = f.each(t, new(Result), func(i int) error { return conns[i].request([]byte{byte(mqtt.PINGREQ) << 4, 0}, mqtt.PINGRESP) })
	}
	back.Took = time.Since(began)
	back.P50, back.P99 = quantile(times, 0.5), quantile(times, 0.99)
	return first, back, err
}

// each calls do for every client, some of them at a time.
func (f *Fleet) each(t Target, r *Result, do func(i int) error) error {
	return measured(t, r, together, func(k int) error {
		for i := k; i < f.Clients; i += together {
			if err := do(i); err != nil {
				return fmt.Errorf("client %d: %w", i, err)
			}
		}
		return nil
	})
}

func (f *Fleet) user(i int) string {
	user, _ := f.Login(i)
	return user
}

// connect opens a connection with a session that lasts.
func (f *Fleet) connect(address string, i int) (*conn, error) {
	dial := f.Dial
	if dial == nil {
		dial = func(a string) (net.Conn, error) { return net.Dial("tcp", a) }
	}
	nc, err := dial(address)
	if err != nil {
		return nil, err
	}
	user, secret := f.Login(i)
	c := &conn{nc: nc, buf: make([]byte, 128)}
	p := &mqtt.Connect{Version: mqtt.V311, ClientID: "phone", KeepAlive: 600, HasUsername: true, Username: user, HasPassword: true, Password: []byte(secret)}
	if err := c.request(mqtt.AppendConnect(nil, p), mqtt.CONNACK); err != nil {
		nc.Close() //nolint:errcheck // err says more
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, nil
}

// comeBack connects again, and again until the broker is there.
func (f *Fleet) comeBack(address string, i int, began time.Time) (c *conn, err error) {
	for time.Since(began) < patience {
		if c, err = f.connect(address, i); err == nil {
			return c, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, errors.Join(errors.New("the broker does not come back"), err)
}
