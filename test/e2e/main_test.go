package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/healthpost/healthpost/test/rig"
)

// sideBySide is how many regions are tested at once: most of a test's time goes by
// while boxes wait for one another.
const sideBySide = 4

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", fmt.Sprint(sideBySide)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(rig.Main(m))
}
