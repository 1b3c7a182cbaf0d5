package broker

import "github.com/geocast/geocast/mqtt"

// CONNACK is the first packet that a client is sent [MQTT-3.2.0-1], though others
// may have something for it before: a PINGREQ that came right behind its CONNECT is
// answered after it, and what it did wrong by then is told after it.

// greet writes a CONNACK that lets the client in, and what waited for it. It
// reports whether one fits into what the client takes.
func (c *core) greet(cn *conn, a *mqtt.Connack) bool {
	b := fitted(a, cn.version, cn.maxPacket)
	if b == nil {
		return false
	}
	pongs := 0
	c.write(cn, func(dst []byte) []byte {
		cn.greeted, pongs, cn.pongs = true, cn.pongs, 0
		return append(dst, b...)
	})
	for range pongs {
		c.write(cn, mqtt.AppendPingresp)
	}
	return true
}

// pong answers a PINGREQ, at once if the client has its CONNACK.
func (c *conn) pong() {
	c.mu.Lock()
	greeted := c.greeted
	if !greeted {
		c.pongs = min(c.pongs+1, inFlight)
	}
	c.mu.Unlock()
	if greeted {
		c.write(mqtt.AppendPingresp)
	}
}

func (c *conn) isGreeted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.greeted
}

// fitted encodes a CONNACK within most bytes, 0 for any: what only informs is left
// out, one thing after the other [MQTT-3.1.2-24]. It returns nil if even what the
// client must know does not fit.
func fitted(a *mqtt.Connack, v mqtt.Version, most int) []byte {
	for _, leaveOut := range []func(){
		func() {},
		func() { a.ReasonString = "" },
		func() { // yes is what their absence means
			a.RetainAvailable, a.WildcardAvailable, a.SubIDAvailable, a.SharedAvailable = nil, nil, nil, nil
		},
		func() { a.ResponseInfo, a.UserProps = "", nil },
		func() { a.TopicAliasMaximum = 0 }, // it may use none, then
	} {
		leaveOut()
		if b := mqtt.AppendConnack(nil, a, v); most == 0 || len(b) <= most {
			return b
		}
	}
	return nil
}
