package broker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// The log has one line for a client that is in, one for one that is gone and one
// for one that was refused. A goroutine of the connection's own writes them: a slow log
// delays nobody else.

// ending is why a connection ended; of several causes the first counts.
type ending struct {
	reason mqtt.Reason
	text   string
	known  bool
}

// because notes why the connection ends.
func (c *conn) because(r mqtt.Reason, text string) {
	c.mu.Lock()
	if !c.why.known {
		c.why = ending{r, text, true}
	}
	c.mu.Unlock()
}

// logConnected says who is in, and how.
func (c *conn) logConnected(p *mqtt.Connect) {
	c.b.stats.connects.Add(1)
	c.b.log.Info("client connected", append(c.who(), "protocol", int(p.Version), "keepalive", p.KeepAlive,
		"clean_start", p.CleanStart, "session_expiry", p.SessionExpiry)...)
}

// logGone says that a client is gone, and why; err is what ended the reading.
func (c *conn) logGone(err error) {
	c.mu.Lock()
	why := c.why
	c.mu.Unlock()
	args := c.who()
	var perr *mqtt.Error
	switch {
	case errors.As(err, &perr):
		args = append(args, "reason", perr.Reason, "text", perr.Text, "clause", perr.Clause)
	case why.known && why.reason == mqtt.Success:
		args = append(args, "reason", "DISCONNECT")
	case why.known:
		if args = append(args, "reason", why.reason); why.text != "" {
			args = append(args, "text", why.text)
		}
	case errors.Is(err, io.EOF):
		args = append(args, "reason", "connection lost", "text", "the client closed it without DISCONNECT")
	default:
		args = append(args, "reason", "connection lost", "text", err)
	}
	c.b.log.Info("client disconnected", args...)
}

// logRefused says who was not let in, and why.
func (c *conn) logRefused(client, user string, err error) {
	reason, text := refusal(err)
	args := []any{"client", short(client), "user", short(user), "remote", c.remote(), "reason", reason, "text", text}
	var perr *mqtt.Error
	var no *hooks.Refusal
	switch {
	case errors.As(err, &perr):
		args = append(args, "clause", perr.Clause)
	case !errors.As(err, &no):
		args = append(args, "err", err)
	}
	c.b.often.some(slog.LevelWarn, "connection refused", args...)
}

// logHandshake says that TLS failed: a certificate that one of the two does not trust,
// or plain MQTT on the port of TLS. Who is only gone is no line: health checks are.
func (c *conn) logHandshake(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) || errors.Is(err, syscall.ECONNRESET) {
		return
	}
	c.b.stats.refusedConnects.Add(1)
	c.b.often.some(slog.LevelWarn, "connection refused", "remote", c.remote(), "reason", "the TLS handshake failed", "err", err)
}

// who are the first fields of a client's lines.
func (c *conn) who() []any {
	return []any{"client", short(c.identity.Client), "user", short(c.identity.User), "remote", c.remote()}
}

// short is a name for the log: a client chooses its own, of up to 64 KB.
func short(name string) string {
	const most = 128
	if len(name) <= most {
		return name
	}
	return strings.ToValidUTF8(name[:most], "") + "…"
}

// someLines is how many lines of one kind some writes a second.
const someLines = 10

// some logs at most someLines a second of a kind of line; the next one bears how
// many there were more.
func (o *oftenLog) some(level slog.Level, text string, args ...any) {
	o.mu.Lock()
	l := o.line(text)
	if now := time.Now(); now.Sub(l.at) >= time.Second {
		l.at, l.lines = now, 0
	}
	if l.lines++; l.lines > someLines {
		l.more++
		o.mu.Unlock()
		return
	}
	if l.more > 0 {
		args = append(args, "more_since_last_line", l.more)
		l.more = 0
	}
	o.mu.Unlock()
	o.log.Log(context.Background(), level, text, args...)
}
