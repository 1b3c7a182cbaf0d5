package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/geo"
)

// demoFleet are the connections of who reports. It is used by one goroutine.
type demoFleet struct {
	address string
	conns   map[string]*client.Client
}

// report publishes a fix and waits for its acknowledgement. When the connection
// breaks, the tracker connects again and sends again: a fix that came twice has no
// second effect.
func (f *demoFleet) report(ctx context.Context, fix *geo.Fix) error {
	topic, payload := reportOf(fix)
	for {
		c, err := f.dial(ctx, fix.Who)
		if err == nil {
			err = c.Publish(ctx, topic, payload, false)
		}
		if err == nil {
			return nil
		}
		if c != nil {
			c.Drop()
			delete(f.conns, fix.Who)
		}
		if err := pause(ctx, demoAgain); err != nil {
			return err
		}
	}
}

// dial connects a tracker, if it is not: MQTT 3.1.1, a clean session.
func (f *demoFleet) dial(ctx context.Context, who string) (*client.Client, error) {
	if c := f.conns[who]; c != nil {
		return c, nil
	}
	c, err := client.Dial(ctx, client.Config{Address: f.address, Client: who + "-gps", User: who, Password: demoToken, Clean: true, KeepAlive: 600})
	if err != nil {
		return nil, err
	}
	if f.conns == nil {
		f.conns = make(map[string]*client.Client)
	}
	f.conns[who] = c
	return c, nil
}

func (f *demoFleet) leave() {
	for _, c := range f.conns {
		c.Close() //nolint:errcheck // the demo ends
	}
}

// reportOf is a fix as its tracker publishes it.
func reportOf(f *geo.Fix) (topic string, payload []byte) {
	topic = strings.TrimSuffix("users/"+f.Who+"/location/"+f.Tracker, "/")
	return topic, fmt.Appendf(nil, `{"lat":%g,"lon":%g,"tst":%.3f}`, f.Lat, f.Lon, float64(f.Tst)/1000)
}
