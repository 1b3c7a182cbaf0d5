package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/regular"
)

// connection are the flags that pub and sub share; they are those of
// mosquitto_pub and mosquitto_sub.
type connection struct {
	Host          string        `short:"h" help:"The broker's host." default:"localhost"`
	Port          uint16        `short:"p" help:"Its port; default 1883, with TLS 8883." placeholder:"PORT"`
	URL           string        `name:"url" short:"L" help:"mqtt(s)://[user[:password]@]host[:port]/topic in place of -h, -p, -u, -P and -t; also ws(s)://host:port/path, with -t." placeholder:"URL"`
	ID            string        `name:"id" short:"i" help:"Client id; without one the broker gives one." placeholder:"ID"`
	Prefix        string        `name:"id-prefix" short:"I" help:"Client id: this and the process id." placeholder:"PREFIX"`
	User          string        `name:"username" short:"u" help:"User name." placeholder:"NAME"`
	Password      text          `name:"pw" short:"P" help:"Password or token." placeholder:"PASSWORD"`
	Level         level         `name:"protocol-version" short:"V" help:"Protocol: 31, 311 or 5." default:"311"`
	KeepAlive     uint16        `name:"keepalive" short:"k" help:"Keep alive in seconds." default:"60"`
	Lasting       bool          `name:"disable-clean-session" short:"c" help:"The session outlives the connection (with -i)."`
	Expiry        sessionExpiry `name:"session-expiry-interval" short:"x" help:"How long, in seconds; -1 for ever (-V 5)." placeholder:"SECONDS"`
	Properties    properties    `name:"property" short:"D" help:"A property (-V 5), as three words: -D publish content-type text/plain; user-property has four." placeholder:"PACKET NAME VALUE"`
	WillTopic     string        `help:"Topic of the will." placeholder:"TOPIC"`
	WillPayload   text          `help:"Payload of the will." placeholder:"TEXT"`
	WillQoS       byte          `name:"will-qos" help:"QoS of the will." enum:"0,1,2" default:"0"`
	WillRetain    bool          `help:"The will is retained."`
	CAFile        string        `name:"cafile" help:"Trust the certificates of this PEM file." type:"existingfile" placeholder:"FILE"`
	Cert          string        `help:"Client certificate (PEM)." type:"existingfile" placeholder:"FILE"`
	Key           string        `help:"Its key (PEM)." type:"existingfile" placeholder:"FILE"`
	TLSUseOSCerts bool          `name:"tls-use-os-certs" help:"TLS with the system's certificates."`
	Insecure      bool          `help:"Take a certificate that is for another host."`
	Debug         bool          `short:"d" help:"Say on stderr what happens."`
	Quiet         bool          `help:"Print no errors."`

	topic string // of URL
}

// text is a value that may begin with a hyphen.
type text string

// Decode takes the next word as it is.
func (t *text) Decode(ctx *kong.DecodeContext) error {
	word := ctx.Scan.Pop()
	if word.IsEOL() {
		return errors.New("a value is missing")
	}
	*t = text(word.String())
	if s, ok := word.Value.(string); ok {
		*t = text(s)
	}
	return nil
}

// level is a protocol level as mosquitto's tools write it.
type level mqtt.Version

// UnmarshalText reads 31, 311, 5, and their longer spellings.
func (l *level) UnmarshalText(b []byte) error {
	switch strings.TrimPrefix(strings.ReplaceAll(string(b), ".", ""), "mqttv") {
	case "31", "3":
		*l = level(mqtt.V31)
	case "311", "4":
		*l = level(mqtt.V311)
	case "5", "50":
		*l = level(mqtt.V5)
	default:
		return fmt.Errorf("-V %s: there are 31, 311 and 5", b)
	}
	return nil
}

// sessionExpiry is in seconds; given tells 0 from none.
type sessionExpiry struct {
	seconds uint32
	given   bool
}

// Decode reads seconds, or -1 for a session that never expires.
func (e *sessionExpiry) Decode(ctx *kong.DecodeContext) error {
	var t text
	if err := t.Decode(ctx); err != nil {
		return err
	}
	e.given, e.seconds = true, mqtt.NeverExpires
	if t == "-1" || t == "∞" {
		return nil
	}
	n, err := strconv.ParseUint(string(t), 10, 32)
	if err != nil {
		return fmt.Errorf("%q is not a number of seconds from 0 to 4294967295, or -1", t)
	}
	e.seconds = uint32(n)
	return nil
}

// config makes the client's configuration, or says which flags don't go
// together.
func (c *connection) config() (client.Config, error) {
	if err := c.readURL(); err != nil {
		return client.Config{}, err
	}
	cfg := client.Config{Address: c.URL, Version: mqtt.Version(c.Level), Client: c.ID, User: c.User, Password: string(c.Password),
		Clean: !c.Lasting, KeepAlive: c.KeepAlive, Session: new(client.Session)}
	if c.Prefix != "" {
		cfg.Client = c.Prefix + strconv.Itoa(os.Getpid())
	}
	five := cfg.Version == mqtt.V5
	switch {
	case c.ID != "" && c.Prefix != "":
		return cfg, errors.New("-i and -I: give one of them")
	case c.Lasting && cfg.Client == "":
		return cfg, errors.New("-c: a session that lasts is found again by its client id: give one with -i")
	case c.Password != "" && c.User == "" && !five:
		return cfg, errors.New("-P: before MQTT 5 there is no password without a user name: give -u, or -V 5")
	case (c.Expiry.given || len(c.Properties) > 0) && !five:
		return cfg, errors.New("-x and -D: only MQTT 5 has them: add -V 5")
	case cfg.Client == "" && cfg.Version == mqtt.V31:
		cfg.Client = "geocast-" + rand.Text()[:12] // 3.1 has no empty ones
	}
	cfg.SessionExpiry = c.Expiry.seconds
	if c.Lasting && !c.Expiry.given {
		cfg.SessionExpiry = mqtt.NeverExpires
	}
	if c.WillTopic != "" {
		cfg.Will = &mqtt.Will{Topic: c.WillTopic, Payload: []byte(c.WillPayload), QoS: c.WillQoS, Retain: c.WillRetain}
	}
	if err := c.Properties.connect(&cfg); err != nil {
		return cfg, err
	}
	return cfg, c.readTLS(&cfg)
}

// readURL takes -L apart, or makes it from -h and -p.
func (c *connection) readURL() error {
	if c.URL == "" {
		u := url.URL{Scheme: "mqtt", Host: net.JoinHostPort(c.Host, "1883")}
		if c.CAFile != "" || c.Cert != "" || c.TLSUseOSCerts || c.Port == 8883 {
			u = url.URL{Scheme: "mqtts", Host: net.JoinHostPort(c.Host, "8883")}
		}
		if c.Port != 0 {
			u.Host = net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
		}
		c.URL = u.String()
		return nil
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" {
		return fmt.Errorf("-L %s: a URL looks like mqtt://user:password@host:1883/topic", c.URL)
	}
	if u.User != nil {
		c.User = u.User.Username()
		if pw, ok := u.User.Password(); ok {
			c.Password = text(pw)
		}
	}
	u.User = nil
	if u.Scheme == "mqtt" || u.Scheme == "mqtts" {
		c.topic = strings.TrimPrefix(u.Path, "/")
		u.Path, u.RawPath = "", ""
	}
	c.URL = u.String()
	return nil
}

// readTLS reads the certificates.
func (c *connection) readTLS(cfg *client.Config) error {
	cfg.TLS = &tls.Config{}
	if c.CAFile != "" {
		pem, err := regular.Read(c.CAFile)
		if err != nil {
			return err
		}
		cfg.TLS.RootCAs = x509.NewCertPool()
		if !cfg.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("--cafile %s: there is no certificate in it", c.CAFile)
		}
	}
	if (c.Cert == "") != (c.Key == "") {
		return errors.New("--cert and --key: the one is of no use without the other")
	}
	if c.Cert != "" {
		pair, err := readPair(c.Cert, c.Key)
		if err != nil {
			return fmt.Errorf("--cert %q, --key %q: %w", c.Cert, c.Key, err)
		}
		cfg.TLS.Certificates = []tls.Certificate{pair}
	}
	if c.Insecure {
		cfg.TLS.InsecureSkipVerify = true // the chain is verified here, the name is not
		cfg.TLS.VerifyConnection = func(s tls.ConnectionState) error {
			o := x509.VerifyOptions{Roots: cfg.TLS.RootCAs, Intermediates: x509.NewCertPool()}
			for _, between := range s.PeerCertificates[1:] {
				o.Intermediates.AddCert(between)
			}
			_, err := s.PeerCertificates[0].Verify(o)
			return err
		}
	}
	return nil
}

// dial connects, and says so with -d.
func (c *connection) dial(ctx context.Context, cfg client.Config, stderr io.Writer) (*client.Client, error) {
	conn, err := client.Dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	a := conn.Connack()
	c.debugf(stderr, "connected to %s, session present: %t", cfg.Address, a.SessionPresent)
	if a.AssignedClientID != "" {
		c.debugf(stderr, "the client id is %s", a.AssignedClientID)
	}
	for _, u := range a.UserProps {
		c.debugf(stderr, "the broker says %s: %s", u.Key, u.Value)
	}
	return conn, nil
}

func (c *connection) debugf(stderr io.Writer, format string, args ...any) {
	if c.Debug {
		fmt.Fprintf(stderr, format+"\n", args...) //nolint:errcheck // nobody else can be told
	}
}

// told is what --quiet leaves of an error: the exit code.
func (c *connection) told(err error) error {
	if err == nil || !c.Quiet {
		return err
	}
	return quietError{err}
}

// quietError is not printed.
type quietError struct{ error }

func (e quietError) Unwrap() error { return e.error }
