package e2e_test

import (
	"os"
	"testing"

	"github.com/healthpost/healthpost/test/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }
