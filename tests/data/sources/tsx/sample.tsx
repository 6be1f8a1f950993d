import { useState } from "react";
import { useEffect } from "preact";

export function Counter(props: { start: number }) {
  const [count] = useState(props.start);
  return <b>{count}</b>;
}

mount(
  Counter,
);
