package chunking

import (
	"encoding/json"
	"errors"
	"testing"
)

func TestNewParams(t *testing.T) {
	a, err := NewParams()
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewParams()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Validate(); err != nil {
		t.Fatal(err)
	}
	if a.Polynomial == b.Polynomial {
		t.Fatal("two stores have one polynomial")
	}
	if a.MinBytes != 64<<10 || a.MaxBytes != 1<<20 || a.AverageBits != 17 || a.Algorithm != "rabin" {
		t.Fatalf("defaults: %+v", a)
	}
}

func TestParamsJSON(t *testing.T) {
	const want = `{"algorithm":"rabin","polynomial":17349423945073011,"min_bytes":65536,"max_bytes":1048576,"average_bits":17}`
	got, err := json.Marshal(testParams())
	if err != nil || string(got) != want {
		t.Fatalf("Params in the store's format changed:\ngot  %s\nwant %s (%v)", got, want, err)
	}
	var back Params
	if err := json.Unmarshal(got, &back); err != nil || back != testParams() {
		t.Fatalf("read back %+v, %v", back, err)
	}
}

func TestValidate(t *testing.T) {
	if err := testParams().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Params){
		"algorithm":            func(p *Params) { p.Algorithm = "fastcdc" },
		"no algorithm":         func(p *Params) { p.Algorithm = "" },
		"min below the window": func(p *Params) { p.MinBytes = 63 },
		"negative min":         func(p *Params) { p.MinBytes = -1 },
		"max below min":        func(p *Params) { p.MaxBytes = p.MinBytes - 1 },
		"huge max":             func(p *Params) { p.MaxBytes = maxBytesLimit + 1 },
		"few bits":             func(p *Params) { p.AverageBits = 5 },
		"many bits":            func(p *Params) { p.AverageBits = 27 },
		"no polynomial":        func(p *Params) { p.Polynomial = 0 },
		"low degree":           func(p *Params) { p.Polynomial = 0x11b },
		"high degree":          func(p *Params) { p.Polynomial |= 1 << 60 },
		"reducible":            func(p *Params) { p.Polynomial &^= 1 },
	} {
		p := testParams()
		change(&p)
		if err := p.Validate(); !errors.Is(err, ErrParams) {
			t.Errorf("%s: Validate = %v", name, err)
		}
		if _, err := NewPool(p); !errors.Is(err, ErrParams) {
			t.Errorf("%s: NewPool = %v", name, err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("NewSplitter took zero Params")
		}
	}()
	NewSplitter(nil, Params{})
}
