/**
 * BGP communities (RFC 1997) and large communities (RFC 8092) as branded canonical strings, written as operators
 * write them: `65000:100` and `65000:1:2`. Equal values are `===`, so they serve as set members and read well in logs.
 */
declare const communityBrand: unique symbol;
declare const largeCommunityBrand: unique symbol;

/** `HIGH:LOW`, each 0 to 65535 (RFC 1997). */
export type Community = string & { readonly [communityBrand]: true };
/** `GLOBAL:LOCAL1:LOCAL2`, each 0 to 4294967295 (RFC 8092 §3). */
export type LargeCommunity = string & { readonly [largeCommunityBrand]: true };

const parts = (text: string, count: number, max: number): number[] | undefined => {
  const fields = text.split(":");
  if (fields.length !== count || !fields.every((f) => /^(0|[1-9]\d{0,9})$/.test(f))) return undefined;
  const values = fields.map(Number);
  return values.every((v) => v <= max) ? values : undefined;
};

/** Undefined unless `HIGH:LOW` in canonical decimal. */
export const parseCommunity = (text: string): Community | undefined =>
  parts(text, 2, 0xffff) === undefined ? undefined : (text as Community);

/** Undefined unless `GLOBAL:LOCAL1:LOCAL2` in canonical decimal. */
export const parseLargeCommunity = (text: string): LargeCommunity | undefined =>
  parts(text, 3, 0xffffffff) === undefined ? undefined : (text as LargeCommunity);

/** For literals in code and tests. @throws Error when the text is not a community. */
export function community(text: string): Community {
  const c = parseCommunity(text);
  if (c === undefined) throw new Error(`not a community: ${JSON.stringify(text)}`);
  return c;
}

/** For literals in code and tests. @throws Error when the text is not a large community. */
export function largeCommunity(text: string): LargeCommunity {
  const c = parseLargeCommunity(text);
  if (c === undefined) throw new Error(`not a large community: ${JSON.stringify(text)}`);
  return c;
}

export const communityFromNumber = (value: number): Community =>
  `${value >>> 16}:${value & 0xffff}` as Community;

export const communityNumber = (c: Community): number => {
  const [high = 0, low = 0] = c.split(":").map(Number);
  return high * 0x10000 + low;
};

export const largeCommunityFromParts = (global: number, local1: number, local2: number): LargeCommunity =>
  `${global >>> 0}:${local1 >>> 0}:${local2 >>> 0}` as LargeCommunity;

export const largeCommunityParts = (c: LargeCommunity): readonly [number, number, number] => {
  const [global = 0, local1 = 0, local2 = 0] = c.split(":").map(Number);
  return [global, local1, local2];
};

/** Well-known (RFC 1997). */
export const NO_ADVERTISE = community("65535:65282");
