package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/geocast/geocast/bench"
	"github.com/geocast/geocast/hooks/users"
)

type benchIdleCmd struct {
	Transport string        `help:"tcp, tls or ws." default:"tcp" enum:"tcp,tls,ws"`
	Clients   int           `help:"Connections; both processes must be allowed as many files." default:"15000"`
	Rest      time.Duration `help:"How long they are left alone before memory is read." default:"25s"`
}

// Help shows an example.
func (benchIdleCmd) Help() string {
	return `Example: geocast bench idle --transport tls --clients 5000

Every connection sends one SUBSCRIBE and one fix, then nothing. What is printed is what RssAnon grew by, for one of them.`
}

// Run holds the connections.
func (c *benchIdleCmd) Run() error {
	scheme := map[string]string{"tcp": "mqtt", "tls": "mqtts", "ws": "ws"}[c.Transport]
	p, err := startSecured(scheme)
	if err != nil {
		return err
	}
	defer p.stop()
	idle := bench.Idle{Name: fmt.Sprintf("idle %s connections (%d)", c.Transport, c.Clients), Connections: c.Clients, Rest: c.Rest}
	switch c.Transport {
	case "tls":
		idle.Dial = bench.DialTLS
	case "ws":
		idle.Dial = bench.DialWebSocket
	}
	r, err := idle.Run(p.target())
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s, CPU %.0f µs a connection\n", r.Name, cell(r), float64(r.PerMessage().Microseconds()))
	return nil
}

type benchReturnCmd struct {
	Clients int  `help:"Clients, each a user with a token, a session that lasts and a subscription to its inbox." default:"15000"`
	TLS     bool `name:"tls" help:"Over TLS."`
	Resume  bool `help:"Clients keep their TLS session tickets, and resume."`
}

// Help shows an example.
func (benchReturnCmd) Help() string {
	return `Example: geocast bench return --clients 15000

The clients connect, geocast is killed with -9 and started again on the same folder, and all connect at once, 100 at a time, until
each is back and has had a PINGRESP on the connection that it holds.`
}

// Run connects, kills and waits.
func (c *benchReturnCmd) Run() error {
	dir, err := os.MkdirTemp(".", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	tokens, err := writeFleet(filepath.Join(dir, "users.yaml"), c.Clients)
	if err != nil {
		return err
	}
	scheme := "mqtt"
	f := bench.Fleet{Name: fmt.Sprintf("%d token clients", c.Clients), Clients: c.Clients,
		Login: func(i int) (string, string) { return fleetUser(i), tokens[i] }}
	if c.TLS {
		scheme, f.Dial, f.Name = "mqtts", bench.DialTLS, f.Name+" over TLS, full handshakes"
		if c.Resume {
			f.Dial, f.Name = bench.DialTLSAgain(), strings.Replace(f.Name, "full handshakes", "resumed", 1)
		}
	}
	address, err := freePort()
	if err != nil {
		return err
	}
	start := func() (*process, error) { return startFleet(dir, scheme, address) }
	p, err := start()
	if err != nil {
		return err
	}
	defer func() { p.stop() }()
	first, back, err := f.Run(p.target(), func() (bench.Target, error) {
		if err := errors.Join(p.cmd.Process.Kill(), ignoreExit(p.cmd.Wait())); err != nil {
			return bench.Target{}, err
		}
		again, err := start()
		if err != nil {
			return bench.Target{}, err
		}
		p = again
		return p.target(), nil
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, p.log.String())
	}
	fmt.Printf("%s: %.1f s, %.0f connects/s, CPU %.0f µs each\n", first.Name, first.Took.Seconds(), first.Rate(), float64(first.PerMessage().Microseconds()))
	fmt.Printf("%s: all held after %.1f s (half of them after %.1f s), CPU %.0f µs each\n", back.Name, back.Took.Seconds(), back.P50.Seconds(), float64(back.PerMessage().Microseconds()))
	return nil
}

// ignoreExit drops how a process ended that was told to.
func ignoreExit(err error) error {
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return nil
	}
	return err
}

func fleetUser(i int) string { return fmt.Sprintf("u%06d", i) }

// writeFleet writes a users file for n clients and returns their tokens.
func writeFleet(file string, n int) (tokens []string, err error) {
	var b strings.Builder
	b.WriteString("version: 1\nusers:\n")
	for i := range n {
		token, stored := users.NewToken()
		tokens = append(tokens, token)
		fmt.Fprintf(&b, "  %s: {token: %q}\n", fleetUser(i), stored)
	}
	return tokens, os.WriteFile(file, []byte(b.String()), 0o600)
}

// startFleet starts geocast on an address, over what dir holds.
func startFleet(dir, scheme, address string) (*process, error) {
	return startSelf("", address, scheme, filepath.Join(dir, "data"), dir, "--users", filepath.Join(dir, "users.yaml"))
}

// startSecured starts geocast in a folder of its own, with a certificate if scheme
// wants one.
func startSecured(scheme string, args ...string) (*process, error) {
	dir, err := os.MkdirTemp(".", "bench-")
	if err != nil {
		return nil, err
	}
	address, err := freePort()
	if err != nil {
		return nil, err
	}
	return startSelf(dir, address, scheme, filepath.Join(dir, "data"), dir, args...)
}

// startSelf starts this program as a broker; it removes remove, if not empty, when it
// is stopped. A TLS listener gets a certificate of its own, in folder.
func startSelf(remove, address, scheme, data, folder string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args = append([]string{"serve", "--log-level", "warn", "--listen", scheme + "://" + address, "--data", data}, args...)
	if scheme == "mqtts" {
		cert, key, err := writeCertificate(folder)
		if err != nil {
			return nil, err
		}
		args = append(args, "--tls-cert", cert, "--tls-key", key)
	}
	return startProcess("geocast", address, remove, exec.Command(self, args...))
}

// writeCertificate makes a certificate for this machine, for an hour.
func writeCertificate(dir string) (cert, key string, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		return "", "", err
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return "", "", err
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	return cert, key, errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}
