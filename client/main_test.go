package client_test

import (
	"testing"

	"go.uber.org/goleak"
)

// No goroutine outlives its client.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
