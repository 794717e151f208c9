// Package bundle_test runs real bundles through a runtime binary and checks what
// the container and the host see. The tests are named by the section of the OCI
// runtime specification that they cover.
package bundle_test

import (
	"os"
	"testing"

	"adl.run/adl-runtime/tests/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
