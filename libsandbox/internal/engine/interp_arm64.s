#include "textflag.h"

// The interpreter; see interp_amd64.s for the layout of an op and for what R25 counts.
//
//   R20 current op     R19 slots     0(R23)..40(R23) arguments     R25 retries left
TEXT ·interp(SB), NOSPLIT|NOFRAME, $0-0
	MOVD	RSP, R23
	SUB	$2112, R23 // not from RSP itself: the linker would count a frame
	MOVD	R23, RSP
	ADD	$64, R23, R19
	MOVD	$0x400400, R20
	MOVD	$0x100000, R25

next:
	MOVHU	2(R20), R21
	ADD	$16, R20, R22
	MOVD	$0, R24

arg:
	MOVD	(R22)(R24<<3), R9
	TBZ	$0, R21, notvalue
	MOVD	(R19)(R9), R9

notvalue:
	TBZ	$1, R21, notaddress
	ADD	R19, R9

notaddress:
	MOVD	R9, (R23)(R24<<3)
	LSR	$2, R21
	ADD	$1, R24
	CMP	$6, R24
	BLT	arg

	LDP	0(R23), (R0, R1)
	LDP	16(R23), (R2, R3)
	LDP	32(R23), (R4, R5)
	MOVHU	0(R20), R8
	MOVD	$0xffff, R9
	CMP	R9, R8
	BEQ	test
	SVC
	CMN	$11, R0 // EAGAIN
	BNE	result
	CMP	$437, R8 // openat2
	BNE	result
	SUBS	$1, R25
	BNE	next

result:
	MOVHU	4(R20), R9
	MOVD	R0, (R19)(R9)
	CMN	$4095, R0
	BCS	failed
	MOVHU	10(R20), R9

skip:
	ADD	$1, R9
	ADD	R9<<6, R20
	B	next

failed:
	NEG	R0, R0
	MOVHU	6(R20), R9
	CMP	R9, R0
	BNE	second
	MOVHU	12(R20), R9
	B	skip

second:
	MOVHU	8(R20), R9
	CMP	R9, R0
	BNE	fault
	MOVHU	14(R20), R9
	B	skip

fault:
	MOVD	$0x400400, R9
	SUB	R9, R20
	LSR	$6, R20
	MOVW	R20, 0(R23)
	MOVW	R0, 4(R23)
	MOVD	8(R19), R0
	MOVD	R23, R1
	MOVD	$8, R2
	MOVD	$64, R8 // write
	SVC
	MOVD	$1, R0
	MOVD	$94, R8 // exit_group
	SVC

test:
	AND	R1, R0
	CMP	R2, R0
	BEQ	pass
	NEG	R4, R0
	B	result

pass:
	MOVD	R3, R0
	B	result

	WORD	$0x2d6c6461 // "adl-"
	WORD	$0x00646e65 // "end"
	RET

// func interpPC() uintptr
TEXT ·interpPC(SB), NOSPLIT, $0-8
	MOVD	$·interp(SB), R0
	MOVD	R0, ret+0(FP)
	RET
