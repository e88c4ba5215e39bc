package printed_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/record/printed"
)

var update = flag.Bool("update", false, "write the published vectors anew")

const vectorsFile = "../../test/vectors/printed.json"

type vectors struct {
	Roots   []rootVector `json:"roots"`
	Refused []string     `json:"refused_lines"`
	QR      []qrVector   `json:"qr"`
}

type rootVector struct {
	Region     string `json:"region"`
	Generation uint64 `json:"generation,string"`
	Size       uint64 `json:"size,string"`
	Root       string `json:"root"`
	Day        int64  `json:"day"`
	Line       string `json:"line"`
	Words      string `json:"words"`
}

type qrVector struct {
	Bytes string `json:"bytes"`
	Text  string `json:"text"`
}

func makeVectors() vectors {
	var v vectors
	for _, r := range someRoots {
		v.Roots = append(v.Roots, rootVector{r.Ledger.Region.String(), r.Ledger.Generation, r.Head.Size, hex.EncodeToString(r.Head.Root[:]), r.Day, r.Line(), strings.Join(r.Words(), " ")})
	}
	line := someRoots[1].Line()
	f := strings.Fields(line)
	v.Refused = []string{line[:len(line)-1] + "x", strings.Replace(line, f[3], f[3]+"0", 1), strings.Replace(line, "HPR1", "HPR2", 1), strings.Replace(line, f[4], f[4][1:], 1)}
	for _, s := range []string{"", "h", "hpproof", "\x00\x00\xff\xff\xff"} {
		v.QR = append(v.QR, qrVector{hex.EncodeToString([]byte(s)), printed.QR([]byte(s))})
	}
	return v
}

func TestVectors(t *testing.T) {
	got, err := json.MarshalIndent(makeVectors(), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(vectorsFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the code makes other vectors than the published ones:\n%s", got)
	}
	var v vectors
	if err := json.Unmarshal(want, &v); err != nil {
		t.Fatal(err)
	}
	for _, x := range v.Roots {
		r, err := printed.Parse(x.Line)
		root, _ := hex.DecodeString(x.Root)
		if err != nil || !strings.HasPrefix(x.Region, r.Ledger.Region.String()[:16]) || r.Ledger.Generation != x.Generation || r.Head != (record.TreeHead{Size: x.Size, Root: record.Hash(root)}) || r.Day != x.Day {
			t.Errorf("%s: got %+v, %v", x.Line, r, err)
		}
		if h, err := printed.ParseWords(x.Size, strings.Fields(x.Words)); err != nil || h != r.Head {
			t.Errorf("%s: got %v, %v", x.Words, h, err)
		}
	}
	for _, line := range v.Refused {
		if r, err := printed.Parse(line); err == nil {
			t.Errorf("%s: got %+v", line, r)
		}
	}
	for _, x := range v.QR {
		if b, err := printed.FromQR(x.Text); err != nil || hex.EncodeToString(b) != x.Bytes {
			t.Errorf("%s: got %x, %v", x.Text, b, err)
		}
	}
}
