package resource

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Quantity is a number with an optional suffix, such as "100m", "1.5", "2Gi" or "12e6".
//
// It contains the original text. Different texts can mean the same number, so compare with Equal or Cmp. The JSON
// encoding is the canonical form: 1000m becomes 1, and 1.5Gi becomes 1536Mi. Digits below 10^-9 are rounded up.
type Quantity string

// MustParse is like ParseQuantity, but panics if the quantity is invalid.
func MustParse(text string) Quantity {
	q, err := ParseQuantity(text)
	if err != nil {
		panic("wasmop: " + err.Error())
	}
	return q
}

// ParseQuantity returns the canonical form of a quantity.
func ParseQuantity(text string) (Quantity, error) {
	v, ok := parse(text)
	if !ok {
		return "", fmt.Errorf("%q is not a quantity: use a number with an exponent or one of the suffixes n u m k M G T P E Ki Mi Gi Ti Pi Ei", text)
	}
	return Quantity(v.canonical()), nil
}

// NewQuantity returns an integer as a quantity.
func NewQuantity(n int64) Quantity { return Quantity(value{nano: nano(n)}.canonical()) }

// NewMilliQuantity returns thousandths as a quantity.
func NewMilliQuantity(n int64) Quantity {
	v := new(big.Int).Mul(big.NewInt(n), big.NewInt(1e6))
	return Quantity(value{nano: v}.canonical())
}

// String returns the canonical form, or the text itself if it is not a quantity.
func (q Quantity) String() string {
	if v, ok := parse(string(q)); ok {
		return v.canonical()
	}
	return string(q)
}

// Equal reports whether both quantities are the same number. Invalid quantities are equal if their texts are.
func (q Quantity) Equal(other Quantity) bool {
	a, ok := parse(string(q))
	b, otherOK := parse(string(other))
	if !ok || !otherOK {
		return q == other
	}
	return a.nano.Cmp(b.nano) == 0
}

// Cmp returns -1, 0 or 1 if q is less than, equal to or greater than other. Invalid quantities count as 0.
func (q Quantity) Cmp(other Quantity) int { return q.value().Cmp(other.value()) }

// IsZero reports whether the quantity is 0, empty or invalid.
func (q Quantity) IsZero() bool { return q.value().Sign() == 0 }

// Value returns the quantity as an integer, rounded away from 0.
func (q Quantity) Value() int64 { return scaled(q.value(), 1e9) }

// MilliValue returns the quantity in thousandths, rounded away from 0. It saturates at the limits of int64.
func (q Quantity) MilliValue() int64 { return scaled(q.value(), 1e6) }

// MarshalJSON writes the canonical form.
func (q Quantity) MarshalJSON() ([]byte, error) { return json.Marshal(q.String()) }

// UnmarshalJSON decodes a string, or a number as in objects of custom resources.
func (q *Quantity) UnmarshalJSON(b []byte) error {
	switch {
	case string(b) == "null":
		*q = ""
		return nil
	case len(b) > 0 && b[0] == '"':
		return json.Unmarshal(b, (*string)(q))
	}
	if _, ok := parse(string(b)); !ok {
		return fmt.Errorf("%s is not a quantity: it must be a string or a number", b)
	}
	*q = Quantity(b)
	return nil
}

func (q Quantity) value() *big.Int {
	if v, ok := parse(string(q)); ok {
		return v.nano
	}
	return new(big.Int)
}

// format is the kind of suffix, which the canonical form keeps.
type format int

const (
	decimalSI format = iota
	binarySI
	decimalExponent
)

// value is a quantity in units of 10^-9.
type value struct {
	nano   *big.Int
	format format
}

const (
	nanoDigits  = 9
	decimals    = "num kMGTPE"   // of 10^-9, 10^-6, …; the space is for 1
	binaries    = "KiMiGiTiPiEi" // of 2^10, 2^20, …
	maxExponent = 1000           // of ten: far beyond the largest magnitude
	maxDigits   = 1000
)

var (
	thousand = big.NewInt(1000)
	kibi     = big.NewInt(1024)
	largest  = nano(math.MaxInt64)
)

func nano(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(1e9)) }

func parse(text string) (value, bool) {
	number := strings.TrimLeft(text, "+-")
	sign := text[:len(text)-len(number)]
	if len(sign) > 1 {
		return value{}, false
	}
	end := len(number) - len(strings.TrimLeft(number, ".0123456789"))
	number, suffix := number[:end], number[end:]
	whole, fraction, _ := strings.Cut(number, ".")
	exponent, shift, form, ok := unit(suffix)
	if !ok || whole+fraction == "" || strings.Contains(fraction, ".") {
		return value{}, false
	}
	whole = strings.TrimLeft(whole, "0")
	fraction = strings.TrimRight(fraction, "0")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return value{new(big.Int), form}, true
	}
	exponent += nanoDigits - len(fraction)
	if cut := len(digits) - maxDigits; cut > 0 {
		// Digits this far after the first one matter only for rounding up.
		digits, exponent = digits[:maxDigits-1]+"1", exponent+cut
	}
	n, ok := new(big.Int).SetString(digits, 10)
	if !ok {
		return value{}, false
	}
	switch {
	case len(digits)+exponent > maxExponent:
		n = powerOfTen(maxExponent)
	case exponent >= 0:
		n.Mul(n, powerOfTen(exponent)).Lsh(n, shift)
	case -exponent > len(digits)+maxExponent:
		n.SetInt64(1)
	default:
		n.Lsh(n, shift)
		rest := new(big.Int)
		if n.QuoRem(n, powerOfTen(-exponent), rest); rest.Sign() != 0 {
			n.Add(n, big.NewInt(1))
		}
	}
	if form == binarySI && n.Cmp(largest) > 0 {
		n.Set(largest) // as the API server does
	}
	if sign == "-" {
		n.Neg(n)
	}
	return value{n, form}, true
}

// unit returns the powers of ten and of two that a suffix stands for.
func unit(suffix string) (exponent int, shift uint, form format, ok bool) {
	switch len(suffix) {
	case 0:
		return 0, 0, decimalSI, true
	case 1:
		at := strings.Index(decimals, suffix)
		if at < 0 || suffix == " " {
			return 0, 0, 0, false
		}
		return at*3 - nanoDigits, 0, decimalSI, true
	}
	if at := strings.Index(binaries, suffix); at >= 0 && at%2 == 0 && len(suffix) == 2 {
		return 0, uint(at/2+1) * 10, binarySI, true
	}
	if suffix[0] != 'e' && suffix[0] != 'E' {
		return 0, 0, 0, false
	}
	n, err := strconv.ParseInt(suffix[1:], 10, 32)
	return int(n), 0, decimalExponent, err == nil
}

func powerOfTen(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// canonical returns the form without a fraction and with the largest possible suffix.
func (v value) canonical() string {
	if v.nano.Sign() == 0 {
		return "0"
	}
	if v.format == binarySI {
		// There is no binary form below 1Ki or with a fraction.
		rest := new(big.Int)
		n, _ := new(big.Int).QuoRem(v.nano, big.NewInt(1e9), rest)
		if rest.Sign() == 0 && n.CmpAbs(kibi) >= 0 {
			n, times := divide(n, kibi, len(binaries)/2)
			if times == 0 {
				return n.String()
			}
			return n.String() + binaries[times*2-2:times*2]
		}
	}
	most := len(decimals) - 1
	if v.format == decimalExponent {
		most = maxExponent
	}
	n, times := divide(v.nano, thousand, most)
	exponent := times*3 - nanoDigits
	if exponent == 0 {
		return n.String()
	}
	if v.format == decimalExponent {
		return n.String() + "e" + strconv.Itoa(exponent)
	}
	return n.String() + decimals[times:times+1]
}

// divide divides repeatedly, at most the given number of times, while there is no remainder.
func divide(n, by *big.Int, most int) (quotient *big.Int, times int) {
	quotient = n
	for times < most {
		next, rest := new(big.Int).QuoRem(quotient, by, new(big.Int))
		if rest.Sign() != 0 {
			break
		}
		quotient = next
		times++
	}
	return quotient, times
}

// scaled divides a value in units of 10^-9, rounding away from 0.
func scaled(nano *big.Int, by int64) int64 {
	n, rest := new(big.Int).QuoRem(nano, big.NewInt(by), new(big.Int))
	n.Add(n, big.NewInt(int64(rest.Sign())))
	switch {
	case n.IsInt64():
		return n.Int64()
	case n.Sign() < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}
