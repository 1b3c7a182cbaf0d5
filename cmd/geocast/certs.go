package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync/atomic"

	"github.com/geocast/geocast/regular"
)

// certs are the certificate and the client CA of TLS listeners. It is safe for
// concurrent use; set replaces them while connections go on.
type certs struct {
	files   tlsConfig
	current atomic.Pointer[tls.Config]
	base    *tls.Config // of the listeners: its session tickets outlive a reload
}

func loadCerts(files tlsConfig) (*certs, error) {
	c := &certs{files: files}
	c.base = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current.Load(), nil },
	}
	t, err := c.read()
	c.set(t)
	return c, err
}

// read reads the files anew; nil without a certificate.
func (c *certs) read() (*tls.Config, error) {
	if c.files.Cert == "" {
		return nil, nil
	}
	pair, err := readPair(c.files.Cert, c.files.Key)
	if err != nil {
		return nil, fmt.Errorf("tls: %s and %s: %w", c.files.Cert, c.files.Key, err)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if c.files.ClientCA == "" {
		return t, nil
	}
	text, err := regular.Read(c.files.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("tls: client_ca: %w", err)
	}
	t.ClientCAs, t.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !t.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("tls: client_ca: %s holds no certificate in PEM", c.files.ClientCA)
	}
	return t, nil
}

// readPair reads a certificate chain and its private key.
func readPair(cert, key string) (pair tls.Certificate, err error) {
	chain, err := regular.Read(cert)
	if err != nil {
		return pair, err
	}
	secret, err := regular.Read(key)
	if err != nil {
		return pair, err
	}
	return tls.X509KeyPair(chain, secret)
}

// set lets new connections have what was read.
func (c *certs) set(t *tls.Config) { c.current.Store(t) }

// config is that of all listeners; nil without a certificate.
func (c *certs) config() *tls.Config {
	if c.files.Cert == "" {
		return nil
	}
	return c.base
}
