using System;

class Sample
{
    int Larger(int a, int b)
    {
        return Math.Max(a, b);
    }

    void Show() => Console.WriteLine(
        "{0}",
        1);
}
