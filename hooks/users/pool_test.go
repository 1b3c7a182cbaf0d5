package users

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// While wrong passwords take all there is, who has a token signs in at once, and who
// has a password is told that the server is busy.
func TestTokensDoNotWaitForPasswords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := []byte("right")
		f := &File{
			users: map[string]User{"ann": {}, "bob": {}}, pool: newPool(1, 2, time.Minute),
			tokens: map[string][32]byte{"ann": sha256.Sum256(token)}, hashes: map[string]hash{"bob": {memory: 8, time: 1, lanes: 1, sum: make([]byte, 16)}},
		}
		sign := func(user string, secret []byte) error {
			_, err := f.Authenticate(t.Context(), &hooks.Credentials{Username: user, HasUsername: true, Password: secret, HasPassword: true})
			return err
		}
		if err := f.pool.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			go sign("bob", []byte("wrong")) //nolint:errcheck // it waits
		}
		synctest.Wait()
		start := time.Now()
		if err := sign("ann", token); err != nil || time.Since(start) != 0 {
			t.Errorf("the token: %v after %v", err, time.Since(start))
		}
		no, ok := errors.AsType[*hooks.Refusal](sign("bob", []byte("password")))
		if !ok || no.Reason != mqtt.ServerBusy || !no.Later {
			t.Errorf("the password: %+v", no)
		}
		<-f.pool.running
	})
}

// One runs, one waits, the third is refused at once; who waits gives up when its
// time or its context ends.
func TestPoolIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 1, time.Second)
		if err := p.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		first := make(chan error, 1)
		go func() { first <- p.enter(t.Context()) }()
		synctest.Wait()
		if err := p.enter(t.Context()); !errors.Is(err, errBusy) {
			t.Errorf("the third gets %v", err)
		}
		start := time.Now()
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("who waits gets %v after %v", err, time.Since(start))
		}
		ctx, stop := context.WithCancel(t.Context())
		go func() { first <- p.enter(ctx) }()
		synctest.Wait()
		stop()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("who has left gets %v", err)
		}
		<-p.running
		if err := p.enter(t.Context()); err != nil {
			t.Errorf("the next gets %v", err)
		}
	})
}
