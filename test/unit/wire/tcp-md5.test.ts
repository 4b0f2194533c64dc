/** `struct tcp_md5sig` byte by byte, in both families, and which texts the kernel and both daemons take as a password. */
import { expect, test } from "vitest";
import { address } from "../../../plugin/net/address.js";
import { encodeTcpMd5, isPassword } from "../../../plugin/wire/tcp-md5.js";

test("has address, length and key where linux/tcp.h has them", () => {
  const bytes = encodeTcpMd5(address("127.0.0.1"), "abc");
  expect(bytes).toHaveLength(216);
  // sin_family of the host's byte order, port 0
  expect([...bytes.subarray(0, 8)].sort()).toEqual([0, 0, 0, 0, 0, 1, 127, 2].sort());
  expect([...bytes.subarray(4, 8)]).toEqual([127, 0, 0, 1]);
  // flags and prefix length: not used
  expect([...bytes.subarray(128, 130)]).toEqual([0, 0]);
  expect(new Uint16Array(bytes.slice(130, 132).buffer)[0]).toBe(3);
  // the interface: any
  expect([...bytes.subarray(132, 136)]).toEqual([0, 0, 0, 0]);
  expect(new TextDecoder().decode(bytes.subarray(136, 139))).toBe("abc");
  expect(bytes.subarray(139).every((b) => b === 0)).toBe(true);
});

test("has the address of IPv6 behind its flow label", () => {
  const bytes = encodeTcpMd5(address("fd00::1"), "x".repeat(80));
  expect([...bytes.subarray(8, 24)]).toEqual([0xfd, ...new Array(14).fill(0), 1]);
  expect(new Uint16Array(bytes.slice(130, 132).buffer)[0]).toBe(80);
  expect(bytes.subarray(136).every((b) => b === 120)).toBe(true);
});

test("a password is printable, without blanks, double quotes and backslashes", () => {
  for (const good of ["a", "q1/+w==", "x".repeat(80), "!#$%&'()*[]^~"]) expect(isPassword(good)).toBe(true);
  for (const bad of ["", " ", "a b", 'a"', "a\\", "a\n", "é", "x".repeat(81)])
    expect(isPassword(bad)).toBe(false);
});
